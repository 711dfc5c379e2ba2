"""The bar rules that ship, by idea. A rule registered in a module here is known everywhere, with no other change."""

__all__: list[str] = []
