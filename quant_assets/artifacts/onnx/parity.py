"""Parity of an exported graph with the model it was made from, judged where it matters: at the decision.

An absolute tolerance proves nothing (1e-3 passes a model that answers zero to everything on daily returns), and
random rows prove little about trees. So errors are measured against the spread of the scores, on real rows, on
rows that sit on each split threshold, on extreme rows and on rows that are not finite; and decisions are counted.
The INT8 gate holds the quantised student against its own FP32 form; it is not applicable to a graph of trees.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant_assets.artifacts.onnx.agreement import (
    Decisions,
    extreme_rows,
    not_finite_rows,
    on_threshold_rows,
    plain,
    rank_correlation,
    spread_of,
)
from quant_assets.artifacts.onnx.scoring import metadata_of, open_session, score
from quant_assets.artifacts.onnx.student import NOT_APPLICABLE, Student
from quant_assets.common.errors import EvidenceError
from quant_assets.gates.cases import GraphParity, ParityCase, StudentParity
from quant_assets.gates.gate import gates_of
from quant_assets.gates.limits import GatesConfig
from quant_assets.gates.verdicts import GateReport
from quant_assets.models.ensemble import Ensemble

# ---------------------------------------------------------------------------------------------- the INT8 gate


def compare_student(
    ensemble: Ensemble, student: Student | None, subject: str, rows: NDArray[np.float32]
) -> tuple[StudentParity | None, dict[str, Any]]:
    """What gate ``int8_parity`` is shown: INT8 against its own FP32.

    Parameters
    ----------
    student : Student or None
        None when the strategy asks for no student.
    rows : ndarray of float32, shape (n, f)
        Real rows, finite.

    Returns
    -------
    StudentParity or None
        None without a student.
    dict
        Plain JSON data: rank correlations, sizes, and what distillation lost against the ensemble.

    Raises
    ------
    EvidenceError
        When a graph names another subject.
    """
    if student is None:
        return None, {"student": False}
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
    rank = rank_correlation(fp32, int8)
    details = {
        "student": True,
        "rows": len(rows),
        "rank_correlation_int8_fp32": rank,
        "rank_correlation_fp32_ensemble": rank_correlation(teacher, fp32),
        "rank_correlation_int8_ensemble": rank_correlation(teacher, int8),
        "max_error_over_sd_int8_fp32": float(np.abs(int8 - fp32).max()) / spread if spread else float("nan"),
        "fp32_bytes": len(student.fp32),
        "int8_bytes": len(student.int8),
        "size_ratio_fp32_over_int8": len(student.fp32) / len(student.int8),
    }
    return StudentParity(len(rows), rank), plain(details)


# -------------------------------------------------------------------------------------------- the parity gate


def compare_graph(
    ensemble: Ensemble, onnx_bytes: bytes, subject: str, rows: NDArray[np.float32]
) -> tuple[GraphParity, dict[str, Any]]:
    """What gate ``onnx_parity`` is shown.

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

    Returns
    -------
    GraphParity
        Over every row set.
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
    errors = [compared.max_error_over_sd for compared in sets.values()]
    found = GraphParity(
        rows=sum(compared.rows for compared in sets.values()),
        max_error_over_sd=float(np.max(errors)),  # NaN wins, and fails
        rank_correlation=float(np.min(list(ranks.values()))),
        flipped_decisions=sum(compared.flipped_decisions for compared in sets.values()) + int(answered.sum()),
    )
    details = {
        "row_sets": {name: compared.to_json() for name, compared in sets.items()},
        "rank_correlation": plain(ranks),
        "not_finite_rows": {"rows": len(broken), "answered_with_a_number": int(answered.sum())},
        "score_spread": decisions.spread,
        "decision_cutoffs": {"zero": 0.0, "median_of_real_rows": decisions.cutoffs[1]},
        "decision_resolution": decisions.resolution,
    }
    return found, details


def parity_report(
    ensemble: Ensemble,
    onnx_bytes: bytes,
    int8: Mapping[str, Any] | None,
    *,
    subject: str,
    rows: NDArray[np.float32],
    limits: GatesConfig,
) -> GateReport:
    """The parity report: one verdict of each gate of its kind, with the numbers behind them.

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
    graph, onnx_details = compare_graph(ensemble, onnx_bytes, subject, rows)
    distilled = None if int8 is None else Student.from_record(int8)
    student, int8_details = compare_student(ensemble, distilled, subject, rows)
    details = {"onnx": onnx_details, "int8": int8_details}
    case = ParityCase(subject, limits, graph, student, no_student=NOT_APPLICABLE, details=details)
    return GateReport(
        kind="parity",
        subject=subject,
        limits=limits.model_dump(mode="json"),
        verdicts=tuple(gate.judge(case) for gate in gates_of("parity")),
        details=details,
    )


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
