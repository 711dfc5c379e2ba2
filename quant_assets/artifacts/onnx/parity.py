"""Parity of an exported graph with the model it was made from, judged where it matters: at the decision."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant_assets.artifacts.onnx.agreement import Decisions, RowSetParity, plain, rank_correlation, spread_of
from quant_assets.artifacts.onnx.probe_rows import extreme_rows, not_finite_rows, on_threshold_rows
from quant_assets.artifacts.onnx.scoring import metadata_of, open_session, score
from quant_assets.artifacts.onnx.student import NOT_APPLICABLE, Student
from quant_assets.common.errors import EvidenceError
from quant_assets.gates.limits import GatesConfig
from quant_assets.gates.verdicts import GateReport, Verdict, judge
from quant_assets.models.ensemble import Ensemble

# --------------------------------------------------------------------------------------------------
# The INT8 gate: the quantised student against its own FP32 form; not applicable to a graph of trees.


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


# --------------------------------------------------------------------------------------------------
# Parity of the exported graph with the native model, judged where it matters: at the decision.
#
# An absolute tolerance proves nothing (1e-3 passes a model that answers zero to everything on daily returns), and
# random rows prove little about trees. So errors are measured against the spread of the scores, on real rows, on
# rows that sit on each split threshold, on extreme rows and on rows that are not finite; and decisions are
# counted.


def judge_parity(
    ensemble: Ensemble, onnx_bytes: bytes, subject: str, rows: NDArray[np.float32], limits: GatesConfig
) -> tuple[Verdict, dict[str, Any]]:
    """Verdict of gate ``onnx_parity``.

    Parameters
    ----------
    ensemble : Ensemble
        The native model.
    onnx_bytes : bytes
        Its graph.
    subject : str
        Data version of the ensemble, which must be the one that the graph names.
    rows : ndarray of float32, shape (n, f)
        Real rows, all finite, as many as there are.
    limits : GatesConfig

    Returns
    -------
    Verdict
        ``pass`` iff the largest error over the spread, the rank correlation and the number of flipped decisions
        all meet their limits, on every row set; the first that does not is the one observed.
    dict
        The numbers per row set, plain JSON data.

    Raises
    ------
    EvidenceError
        When the graph names another subject, other features or another recipe, or there are no rows.
    ArtifactError
        When the graph is not safe to load.
    """
    session = open_session(onnx_bytes)
    _check_identity(metadata_of(session), ensemble, subject)
    if len(rows) < 2 or not np.isfinite(rows).all():
        raise EvidenceError(
            "rows for the parity gate",
            expected="at least two real rows, every feature finite",
            found=f"{len(rows)} rows, {int((~np.isfinite(rows)).any(axis=1).sum())} of them not finite",
            action="pass rows of the training set",
        )
    native, graph = ensemble.predict(rows), score(session, rows)
    decisions = Decisions.of(ensemble, rows, native)
    split_trees = chain.from_iterable(learner.trees() for learner in ensemble.learners)
    probed_native, probed_graph = _scores(
        on_threshold_rows(split_trees, rows), ensemble.predict, lambda x: score(session, x)
    )
    extreme = extreme_rows(rows)
    sets = {
        "real": decisions.compare(native, graph),
        "on_threshold": decisions.compare(probed_native, probed_graph),
        "extreme": decisions.compare(ensemble.predict(extreme), score(session, extreme)),
    }
    broken = not_finite_rows(rows)
    answered = np.isfinite(score(session, broken)) | np.isfinite(ensemble.predict(broken))
    ranks = {"real": rank_correlation(native, graph)}
    if len(probed_native):
        ranks["on_threshold"] = rank_correlation(probed_native, probed_graph)
    verdict = _verdict(subject, sets, float(np.min(list(ranks.values()))), int(answered.sum()), limits)
    details = {
        "row_sets": {name: found.to_json() for name, found in sets.items()},
        "rank_correlation": plain(ranks),
        "not_finite_rows": {"rows": len(broken), "answered_with_a_number": int(answered.sum())},
        "score_spread": decisions.spread,
        "decision_cutoffs": {"zero": 0.0, "median_of_real_rows": decisions.cutoffs[1]},
        "decision_resolution": decisions.resolution,
    }
    return verdict, details


def parity_report(
    ensemble: Ensemble,
    onnx_bytes: bytes,
    int8: Mapping[str, Any] | None,
    *,
    subject: str,
    rows: NDArray[np.float32],
    limits: GatesConfig,
) -> GateReport:
    """The parity report: verdicts of ``onnx_parity`` and ``int8_parity``, with the numbers behind them.

    Parameters
    ----------
    ensemble : Ensemble
    onnx_bytes : bytes
    int8 : mapping or None
        The record of `quant_assets.artifacts.onnx.student.student_record`; None when there is no student.
    subject : str
        Data version of the ensemble.
    rows : ndarray of float32, shape (n, f)
        Real rows, all finite.
    limits : GatesConfig
    """
    student = None if int8 is None else Student.from_record(int8)
    onnx_verdict, onnx_details = judge_parity(ensemble, onnx_bytes, subject, rows, limits)
    student_verdict, int8_details = int8_verdict(ensemble, student, subject, rows, limits)
    return GateReport(
        kind="parity",
        subject=subject,
        limits=limits.model_dump(mode="json"),
        verdicts=(onnx_verdict, student_verdict),
        details={"onnx": onnx_details, "int8": int8_details},
    )


def _verdict(
    subject: str, sets: dict[str, RowSetParity], rank: float, answered: int, limits: GatesConfig
) -> Verdict:
    worst = float(np.max([found.max_error_over_sd for found in sets.values()]))  # NaN wins, and fails
    flipped = sum(found.flipped_decisions for found in sets.values()) + answered
    remedy = "export the graph again from this ensemble; if it persists the converter is wrong for this model"
    criteria = (
        judge(
            "onnx_parity", subject, worst, limits.parity_max_error_over_sd, comparison="<=", remedy=remedy,
            quantity="largest score error over the spread of the scores",
        ),
        judge(
            "onnx_parity", subject, rank, limits.parity_min_rank_correlation, remedy=remedy,
            quantity="rank correlation of graph and native scores",
        ),
        judge(
            "onnx_parity", subject, float(flipped), limits.parity_max_flipped_decisions, comparison="<=",
            remedy=remedy, quantity="decisions that differ between graph and native model",
        ),
    )  # fmt: skip
    failed = [criterion for criterion in criteria if criterion.status != "pass"]
    total = sum(found.rows for found in sets.values())
    reasons = "; ".join(criterion.reason for criterion in failed or criteria)
    return replace((failed or criteria)[0], reason=f"{reasons} ({total} rows)")


def _check_identity(metadata: dict[str, str], ensemble: Ensemble, subject: str) -> None:
    expected = {
        "subject": subject,
        "recipe": ensemble.recipe,
        "feature_names": json.dumps(list(ensemble.feature_names)),
    }
    for key, value in expected.items():
        if metadata.get(key) != value:
            raise EvidenceError(
                f"{key} of the ONNX graph",
                expected=value,
                found=metadata.get(key, "nothing"),
                action="judge the graph that was exported from this ensemble",
            )


def _scores(
    matrices: Iterator[NDArray[np.float32]],
    predict: Callable[[NDArray[np.float32]], NDArray[np.float64]],
    run: Callable[[NDArray[np.float32]], NDArray[np.float32]],
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    pairs = [(predict(matrix), run(matrix)) for matrix in matrices]
    if not pairs:
        return np.empty(0), np.empty(0, dtype=np.float32)
    return np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs])
