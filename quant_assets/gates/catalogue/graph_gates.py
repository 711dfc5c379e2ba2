"""What is asked of a candidate's exported graphs: that they decide, and rank, as what they were made from."""

from dataclasses import replace

from quant_assets.gates.cases import ParityCase
from quant_assets.gates.gate import Gate, Limit, register
from quant_assets.gates.verdicts import Verdict

# Numerical agreement is no matter of taste: no strategy has its own.
MIN_RANK_CORRELATION = Limit(
    "parity_min_rank_correlation",
    0.9999,
    ">=",
    "of graph and native scores",
    ge=0,
    le=1,
    floor=0.999,
    per_strategy=False,
)
MAX_FLIPPED = Limit(
    "parity_max_flipped_decisions",
    0,
    "<=",
    "decisions, all rows",
    ge=0,
    floor=10,
    whole=True,
    per_strategy=False,
)


def judge_graph(case: ParityCase) -> Verdict:
    """Error, ranks and decisions on every kind of row; the first condition that is not met is the one observed."""
    graph = case.graph
    criteria = (
        ONNX_PARITY.verdict(
            case, graph.max_error_over_sd, quantity="largest score error over the spread of the scores"
        ),
        ONNX_PARITY.verdict(
            case,
            graph.rank_correlation,
            by=MIN_RANK_CORRELATION,
            quantity="rank correlation of graph and native scores",
        ),
        ONNX_PARITY.verdict(
            case,
            float(graph.flipped_decisions),
            by=MAX_FLIPPED,
            quantity="decisions that differ between graph and native model",
        ),
    )
    failed = [criterion for criterion in criteria if criterion.status != "pass"]
    reasons = "; ".join(criterion.reason for criterion in failed or criteria)
    return replace((failed or criteria)[0], reason=f"{reasons}, over {graph.rows:,} rows")


def judge_student(case: ParityCase) -> Verdict:
    """Rank correlation of the INT8 student with its own FP32 form."""
    if case.student is None:
        return INT8_PARITY.unobserved(
            case,
            "not_applicable",
            reason=case.no_student,
            remedy="set artifacts.int8_student: true in the strategy to distil a network that INT8 can act on",
        )
    return INT8_PARITY.verdict(
        case,
        case.student.rank_correlation,
        quantity=f"rank correlation of the INT8 student with its FP32 form ({case.student.rows} rows)",
    )


ONNX_PARITY = register(
    Gate(
        name="onnx_parity",
        kind="parity",
        title="ONNX parity",
        description="The ONNX graph decides as the native ensemble on every row, on-threshold rows included.",
        opens_when="the largest score error over the spread of the scores is at most `parity_max_error_over_sd`, the "
        "rank correlation at least `parity_min_rank_correlation`, and at most `parity_max_flipped_decisions` "
        "decisions differ, on real and on-threshold rows",
        limit=Limit(
            "parity_max_error_over_sd",
            1e-3,
            "<=",
            "largest error, spreads",
            gt=0,
            le=1,
            floor=0.01,
            per_strategy=False,
        ),
        further=(MIN_RANK_CORRELATION, MAX_FLIPPED),
        judge=judge_graph,
        remedy="export the graph again from this ensemble; if it persists the converter is wrong for this model",
        place=1,
    )
)
INT8_PARITY = register(
    Gate(
        name="int8_parity",
        kind="parity",
        title="INT8 parity",
        description="The INT8 student ranks as its own FP32 version; not applicable to tree graphs.",
        opens_when="the rank correlation of the INT8 student with its FP32 version is at least "
        "`int8_min_rank_correlation`; not applicable to tree graphs",
        limit=Limit(
            "int8_min_rank_correlation",
            0.99,
            ">=",
            "INT8 against its FP32",
            ge=0,
            le=1,
            floor=0.95,
            per_strategy=False,
        ),
        judge=judge_student,
        remedy="distil again on more rows of the training window: the activation ranges do not cover these rows",
        may_not_apply=True,  # INT8 does nothing to a tree graph (onnxruntime#11436)
        place=2,
    )
)
