"""Validation, beside the verdicts: what a candidate adds over a linear model of the same features."""

from quant_assets.common.settings import (
    CostConfig,
    DelistingConfig,
    ModelsConfig,
    PortfolioConfig,
    ValidationConfig,
)
from quant_assets.lineage.artifact import Artifact
from quant_assets.lineage.declaring import Product, stage, trading_code
from quant_assets.lineage.scope import SessionRange


# It shows an outcome beside what the paths have shown: it reads them, so that nobody sees it before they are counted.
@stage(group="validation", kinds=frozenset({"numpy"}), roots=trading_code)
def linear_baseline(
    training_set: Artifact,
    scored_rows: Artifact,
    bars: Artifact,
    cpcv_paths: Artifact,
    *,
    models: ModelsConfig,
    validation: ValidationConfig,
    sessions: SessionRange,
    portfolio: PortfolioConfig,
    costs: CostConfig,
    delisting: DelistingConfig,
) -> Product:
    """What the candidate adds over ridge on the same features in the same splits. It is no trial and no gate."""
    from quant_assets.datasets.training_set import feature_names_of
    from quant_assets.gates.linear_comparison import compare_with_linear
    from quant_assets.market.calendar import periods_per_year
    from quant_assets.models.linear_baseline import linear_predict
    from quant_assets.trading.paths import path_returns

    table = training_set.table()
    scored = scored_rows.table().frame
    predictions = linear_predict(table.frame, feature_names_of(table), models, validation, scored=scored)
    returns = path_returns(predictions, bars.table().frame, portfolio, costs, delisting)
    found = compare_with_linear(cpcv_paths.table().frame, returns, periods_per_year(*sessions))
    facts = {name: value for name, value in found.to_json().items() if value is not None}
    return Product(
        {**found.to_json(), "recipe": cpcv_paths.table().metadata["recipe"]},
        {"summary": found.sentence, **facts},
    )
