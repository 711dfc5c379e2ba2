"""The stages: one module a group. A new module here is found and adds its assets, with no other change."""

__all__: list[str] = []
