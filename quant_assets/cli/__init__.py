"""The ``quant-assets`` command: one module a command, one terminal."""

from typing import TYPE_CHECKING

from quant_assets.common.lazy import lazy_exports

if TYPE_CHECKING:
    from quant_assets.cli.main import app
else:
    __getattr__, __dir__ = lazy_exports(__name__)

__all__ = [
    "app",
]
