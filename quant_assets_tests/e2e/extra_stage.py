"""An asset of another's package: declared here, and named nowhere else."""

from quant_assets.lineage import Artifact, Check, CheckResult, Product, Stage, single


def row_count(training_set: Artifact, *, name: str) -> Product:
    """How many rows the strategy is trained on."""
    return Product({"strategy": name, "rows": training_set.table().frame.height})


def enough_rows(row_count: Artifact) -> CheckResult:
    """Whether there is anything to train on."""
    rows = row_count.json()["rows"]
    return CheckResult("enough_rows", rows > 100, f"{rows} rows")


ROW_COUNT = Stage(
    name="row_count",
    function=row_count,
    group="datasets",
    kinds=frozenset({"json"}),
    checks=(Check("enough_rows", single("enough_rows", "More than 100 rows.", blocking=False), enough_rows),),
)
