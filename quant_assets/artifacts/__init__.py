"""Artifacts: the fused ONNX graph, parity with the native model, the INT8 student, runtimes, the bundle."""

from typing import TYPE_CHECKING

from quant_assets.common.lazy import lazy_exports

if TYPE_CHECKING:
    from quant_assets.artifacts import bundle, onnx, runtimes
else:
    __getattr__, __dir__ = lazy_exports(__name__)

__all__ = [
    "bundle",
    "onnx",
    "runtimes",
]
