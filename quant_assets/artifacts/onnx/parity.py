"""Parity of an exported graph with the model it was made from, judged where it matters: at the decision.

An absolute tolerance proves nothing (1e-3 passes a model that answers zero to everything on daily returns), and
random rows prove little about trees. So errors are measured against the spread of the scores, on real rows, on
rows that sit on each split threshold, on extreme rows and on rows that are not finite; and decisions are counted.
The INT8 gate holds the quantised student against its own FP32 form; it is not applicable to a graph of trees.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant_assets.artifacts.onnx.scoring import metadata_of, open_session, score, spread_of
from quant_assets.artifacts.onnx.student import NOT_APPLICABLE, Student
from quant_assets.common.errors import EvidenceError
from quant_assets.gates.cases import GraphParity, ParityCase, StudentParity
from quant_assets.gates.gate import gates_of
from quant_assets.gates.limits import GatesConfig
from quant_assets.gates.verdicts import GateReport
from quant_assets.models.ensemble import Ensemble
from quant_assets.models.trees import Tree

# ------------------------------------------------------------------------------ agreement of two sets of scores

# A row whose native score lies closer to a cutoff than 32 float32 steps of the largest term of the stack is on
# neither side of it: float32 sums of some hundred leaves move it about that far (2.5e-9 measured with 80 trees
# where this is 2.3e-8). In spreads it is about 1e-5, a hundredth of the error limit.
_RESOLUTION = 2.0**-18


@dataclass(frozen=True)
class RowSetParity:
    """What one set of rows showed.

    Attributes
    ----------
    rows : int
    max_error : float
        Largest |graph - native|, target units; NaN when a score is missing.
    max_error_over_sd : float
        The same over the spread of the native scores of the real rows; NaN when they have none.
    flipped_decisions : int
        Rows on different sides of a cutoff, or without a score in the graph.
    undecided_rows : int
        Rows within float32 resolution of a cutoff: on neither side, so not counted as flipped there.
    """

    rows: int
    max_error: float
    max_error_over_sd: float
    flipped_decisions: int
    undecided_rows: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return plain(asdict(self))


@dataclass(frozen=True)
class Decisions:
    """The two decisions that a score stands for, and the resolution at which they are made.

    Long or short (score above zero), and upper or lower half of the cross-section (score above the median of
    the real rows' native scores).

    Attributes
    ----------
    cutoffs : tuple of float
        Zero and that median, target units.
    resolution : float
        Native scores closer to a cutoff than this are undecided, target units.
    spread : float
        Standard deviation of the native scores of the real rows; 0 when they are constant.
    """

    cutoffs: tuple[float, float]
    resolution: float
    spread: float

    @classmethod
    def of(cls, ensemble: Ensemble, rows: NDArray[np.float32], native: NDArray[np.float64]) -> "Decisions":
        """Cutoffs, resolution and spread from the native scores of the real rows."""
        terms = np.abs(ensemble.base_predictions(rows) * np.array(ensemble.stacker.coefficients))
        largest = max(float(terms.max(initial=0.0)), abs(ensemble.stacker.intercept))
        return cls((0.0, float(np.median(native))), _RESOLUTION * largest, spread_of(native))

    def compare(self, native: NDArray[np.float64], graph: NDArray[np.float32]) -> RowSetParity:
        """Errors and flips of one set of rows whose features are finite.

        Both sides decide from float32 scores, as consumers of the graph do.
        """
        narrowed = native.astype(np.float32).astype(np.float64)
        scores = graph.astype(np.float64)
        flipped = ~np.isfinite(scores)
        undecided = np.zeros(len(native), dtype=np.bool_)
        for cutoff in self.cutoffs:
            near = np.abs(native - cutoff) <= self.resolution
            flipped |= ~near & ((narrowed > cutoff) != (scores > cutoff))
            undecided |= near
        worst = float(np.max(np.abs(scores - native), initial=0.0))
        over = worst / self.spread if self.spread > 0 else math.nan
        return RowSetParity(len(native), worst, over, int(flipped.sum()), int(undecided.sum()))


def rank_correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Spearman's rank correlation, ties at their average rank; NaN when either side is constant or not finite."""
    from scipy.stats import rankdata

    if len(a) < 2 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return math.nan
    left, right = rankdata(a) - (len(a) + 1) / 2, rankdata(b) - (len(b) + 1) / 2
    scale = math.sqrt(float((left * left).sum()) * float((right * right).sum()))
    return float((left * right).sum()) / scale if scale > 0 else math.nan


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same mapping with None in place of numbers that JSON cannot carry."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


# --------------------------------------------------------------------------- rows that find conversion errors


Rows = NDArray[np.float32]

_LOWEST, _HIGHEST = np.finfo(np.float32).min, np.finfo(np.float32).max
_CHUNK = 65_536


def below(value: np.float32) -> np.float32:
    """The next float32 down."""
    return np.float32(np.nextafter(value, np.float32(-np.inf)))


def above(value: np.float32) -> np.float32:
    """The next float32 up."""
    return np.float32(np.nextafter(value, np.float32(np.inf)))


def on_threshold_rows(trees: Iterable[Tree], rows: Rows, chunk: int = _CHUNK) -> Iterator[Rows]:
    """Three rows for every split of every tree, which *reach* that split and sit on its threshold.

    Random rows prove little: with thresholds rounded to the nearest float32 instead of down, 20,000 of them
    agree while rows on a threshold are off by .45.

    Parameters
    ----------
    trees : iterable of Tree
    rows : ndarray of float32, shape (n, f)
        Real rows, at least one. Each split takes the next one and moves only the features on its path, as
        little as it takes to reach the split.
    chunk : int
        Rows per yielded matrix, about.

    Yields
    ------
    ndarray of float32, shape (<= chunk + 2, f)
        For each split its threshold, one float32 below it and one above it.
    """
    pending: list[Rows] = []
    number = 0
    for tree in trees:
        for node, bounds in _reachable(tree):
            row = rows[number % len(rows)].copy()
            number += 1
            for feature, (low, high) in bounds.items():
                row[feature] = min(max(row[feature], low), high)
            feature, threshold = int(tree.feature[node]), tree.threshold[node]
            low, high = bounds.get(feature, (_LOWEST, _HIGHEST))
            probes = np.repeat(row[None], 3, axis=0)
            for place, value in enumerate((threshold, below(threshold), above(threshold))):
                probes[place, feature] = min(max(value, low), high)
            pending.append(probes)
            if 3 * len(pending) >= chunk:
                yield np.concatenate(pending)
                pending = []
    if pending:
        yield np.concatenate(pending)


def _reachable(tree: Tree) -> Iterator[tuple[int, dict[int, tuple[np.float32, np.float32]]]]:
    """Split nodes with the closed intervals of features that lead to them."""
    stack: list[tuple[int, dict[int, tuple[np.float32, np.float32]]]] = [(0, {})] if tree.n_splits else []
    while stack:
        node, bounds = stack.pop()
        yield node, bounds
        feature, threshold = int(tree.feature[node]), tree.threshold[node]
        low, high = bounds.get(feature, (_LOWEST, _HIGHEST))
        left_high = min(high, threshold if tree.inclusive else below(threshold))
        right_low = max(low, above(threshold) if tree.inclusive else threshold)
        # Symmetric trees repeat a split; the branch that no value can take is left out.
        if tree.right[node] >= 0 and right_low <= high:
            stack.append((int(tree.right[node]), {**bounds, feature: (right_low, high)}))
        if tree.left[node] >= 0 and low <= left_high:
            stack.append((int(tree.left[node]), {**bounds, feature: (low, left_high)}))


def extreme_rows(rows: Rows) -> Rows:
    """A real row with each feature in turn, then all of them, at zero, at both ends of float32, and next to 0."""
    smallest = np.finfo(np.float32).smallest_subnormal
    values = np.array([0.0, -0.0, _HIGHEST, _LOWEST, smallest, -smallest, 1e30, -1e30], dtype=np.float32)
    width = rows.shape[1]
    single = np.repeat(rows[:1], len(values) * width, axis=0)
    single[np.arange(len(single)), np.repeat(np.arange(width), len(values))] = np.tile(values, width)
    return np.concatenate((single, np.repeat(values[:, None], width, axis=1)))


def not_finite_rows(rows: Rows) -> Rows:
    """A real row with each feature in turn NaN, then plus, then minus infinity."""
    width = rows.shape[1]
    values = np.array([np.nan, np.inf, -np.inf], dtype=np.float32)
    result = np.repeat(rows[:1], len(values) * width, axis=0)
    result[np.arange(len(result)), np.repeat(np.arange(width), len(values))] = np.tile(values, width)
    return result


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
