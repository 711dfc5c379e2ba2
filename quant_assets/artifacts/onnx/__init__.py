"""ONNX: the fused graph, the INT8 student, and parity of both with the model."""

from typing import TYPE_CHECKING

from quant_assets.common.lazy import lazy_exports

if TYPE_CHECKING:
    from quant_assets.artifacts.onnx.export import export_onnx
    from quant_assets.artifacts.onnx.parity import (
        Decisions,
        RowSetParity,
        extreme_rows,
        not_finite_rows,
        on_threshold_rows,
        parity_report,
        rank_correlation,
    )
    from quant_assets.artifacts.onnx.scoring import Scorer, metadata_of, open_session, score
    from quant_assets.artifacts.onnx.student import Student, student_record
    from quant_assets.models.graphs import checked_model
else:
    __getattr__, __dir__ = lazy_exports(__name__)

__all__ = [
    "Decisions",
    "RowSetParity",
    "Scorer",
    "Student",
    "checked_model",
    "export_onnx",
    "extreme_rows",
    "metadata_of",
    "not_finite_rows",
    "on_threshold_rows",
    "open_session",
    "parity_report",
    "rank_correlation",
    "score",
    "student_record",
]
