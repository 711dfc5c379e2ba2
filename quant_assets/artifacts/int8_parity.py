"""The INT8 gate: the quantised student against its own FP32 form; not applicable to a graph of trees."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant_assets.artifacts.agreement import plain, rank_correlation, spread_of
from quant_assets.artifacts.runtime import metadata_of, open_session, score
from quant_assets.artifacts.student import NOT_APPLICABLE, Student
from quant_assets.common.errors import EvidenceError
from quant_assets.common.settings import GatesConfig
from quant_assets.models.ensemble import Ensemble
from quant_assets.validation.verdicts import Verdict, judge

GATE = "int8_parity"


def int8_verdict(
    ensemble: Ensemble, student: Student | None, subject: str, rows: NDArray[np.float32], limits: GatesConfig
) -> tuple[Verdict, dict[str, Any]]:
    """Verdict of gate ``int8_parity``: ``not_applicable`` for tree graphs, else INT8 against its own FP32.

    Parameters
    ----------
    student : Student or None
        None when the strategy asks for no student.
    rows : ndarray of float32, shape (n, f)
        Real rows, finite.

    Returns
    -------
    Verdict
    dict
        Plain JSON data: rank correlations, sizes, and what distillation lost against the ensemble.

    Raises
    ------
    EvidenceError
        When a graph names another subject.
    """
    if student is None:
        verdict = Verdict(
            gate=GATE, subject=subject, status="not_applicable", observed=None,
            required=limits.int8_min_rank_correlation, comparison=">=",
            reason=NOT_APPLICABLE,
            remedy="set artifacts.int8_student: true in the strategy to distil a network that INT8 can act on",
        )  # fmt: skip
        return verdict, {"student": False}
    sessions = {"fp32": open_session(student.fp32), "int8": open_session(student.int8)}
    for precision, session in sessions.items():
        facts = metadata_of(session)
        if (facts.get("subject"), facts.get("student")) != (subject, precision):
            raise EvidenceError(
                f"{precision} student",
                expected=f"subject {subject}, precision {precision}",
                found=f"subject {facts.get('subject')}, precision {facts.get('student')}",
                action="judge the student that was distilled from this ensemble",
            )
    teacher = ensemble.predict(rows)
    fp32 = score(sessions["fp32"], rows).astype(np.float64)
    int8 = score(sessions["int8"], rows).astype(np.float64)
    spread = spread_of(fp32)
    verdict = judge(
        GATE, subject, rank_correlation(fp32, int8), limits.int8_min_rank_correlation,
        quantity=f"rank correlation of the INT8 student with its FP32 form ({len(rows)} rows)",
        remedy="distil again on more rows of the training window: the activation ranges do not cover these rows",
    )  # fmt: skip
    details = {
        "student": True,
        "rows": len(rows),
        "rank_correlation_int8_fp32": rank_correlation(fp32, int8),
        "rank_correlation_fp32_ensemble": rank_correlation(teacher, fp32),
        "rank_correlation_int8_ensemble": rank_correlation(teacher, int8),
        "max_error_over_sd_int8_fp32": float(np.abs(int8 - fp32).max()) / spread if spread else float("nan"),
        "fp32_bytes": len(student.fp32),
        "int8_bytes": len(student.int8),
        "size_ratio_fp32_over_int8": len(student.fp32) / len(student.int8),
    }
    return verdict, plain(details)
