"""The feature packs that ship: one module each. A new module here is a new pack, with no other change."""

__all__: list[str] = []
