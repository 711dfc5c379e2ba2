"""Gates of another's package, one of each kind: declared here, and named nowhere else."""

from quant_assets.gates import DriftCase, Gate, Limit, ParityCase, ValidationCase, Verdict


def judge_turnover(case: ValidationCase) -> Verdict:
    return TURNOVER.verdict(
        case, case.median.turnover_per_session, quantity="turnover of capital per session", alpha=0.5
    )


def judge_graph_size(case: ParityCase) -> Verdict:
    return GRAPH_ROWS.verdict(case, case.graph.rows, quantity="rows on which the graph was compared")


def judge_largest_distance(case: DriftCase) -> Verdict:
    largest = max(row["js_distance_bits"] for row in case.features)
    return LARGEST_DISTANCE.verdict(case, largest, quantity="largest JS distance of a feature (bits)")


TURNOVER = Gate(
    name="cpcv_turnover",
    kind="validation",
    title="Turnover",
    description="Turnover of the path with the median Sharpe.",
    opens_when="the turnover of the median path is at most `turnover_max`",
    limit=Limit("turnover_max", 0.35, "<=", "of capital per session", gt=0, le=2),
    judge=judge_turnover,
    remedy="trade less often",
)
GRAPH_ROWS = Gate(
    name="graph_rows",
    kind="parity",
    title="Compared rows",
    description="Rows on which the graph was compared with the ensemble.",
    opens_when="at least `parity_min_rows` rows were compared",
    limit=Limit("parity_min_rows", 50, ">=", "rows", ge=1, whole=True, per_strategy=False),
    judge=judge_graph_size,
    remedy="a longer history",
)
LARGEST_DISTANCE = Gate(
    name="largest_drift",
    kind="drift",
    title="Largest drift",
    description="The largest JS distance of a feature from its baseline.",
    opens_when="no feature is further than `max_js_distance_bits` from its baseline",
    limit=Limit("max_js_distance_bits", 0.5, "<=", "bits", ge=0, le=1),
    judge=judge_largest_distance,
    remedy="retrain",
)
