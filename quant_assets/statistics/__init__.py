"""Statistics: the Sharpe ratio and its inference, selection among trials, track records, rates with intervals."""

from typing import TYPE_CHECKING

from quant_assets.common.lazy import lazy_exports

if TYPE_CHECKING:
    from quant_assets.statistics.multiple_testing import (
        HaircutSharpe,
        RademacherBounds,
        StepwiseTest,
        false_discovery_rates,
        haircut_sharpe,
        rademacher_bounds,
        rademacher_complexity,
        stepwise_superior_trials,
    )
    from quant_assets.statistics.overfitting import (
        BacktestOverfitting,
        DependentMean,
        dependent_mean,
        effective_number_of_trials,
        level_of_best,
        probability_of_backtest_overfitting,
        search_p_value,
    )
    from quant_assets.statistics.rates import Rate, clopper_pearson
    from quant_assets.statistics.sharpe import (
        annualisation_factor,
        annualised_sharpe,
        deflated_sharpe_ratio,
        minimum_track_record_length,
        moments,
        probabilistic_sharpe_ratio,
        sharpe_ratio,
    )
    from quant_assets.statistics.sharpe_inference import (
        deflated_sharpe_alpha,
        expected_maximum_sharpe,
        minimum_backtest_length,
        sharpe_standard_error,
        sharpe_test_power,
        variance_of_maximum,
    )
    from quant_assets.statistics.superior_ability import SuperiorAbility, optimal_block_length
    from quant_assets.statistics.track_record import (
        TrackRecord,
        annual_return,
        annual_volatility,
        calmar_ratio,
        max_drawdown,
        sortino_ratio,
        win_rate,
    )
else:
    __getattr__, __dir__ = lazy_exports(__name__)

# `superior_ability` and `track_record` are modules, each with a function of the same name: import it from there.
__all__ = [
    "BacktestOverfitting",
    "DependentMean",
    "HaircutSharpe",
    "RademacherBounds",
    "Rate",
    "StepwiseTest",
    "SuperiorAbility",
    "TrackRecord",
    "annual_return",
    "annual_volatility",
    "annualisation_factor",
    "annualised_sharpe",
    "calmar_ratio",
    "clopper_pearson",
    "deflated_sharpe_alpha",
    "deflated_sharpe_ratio",
    "dependent_mean",
    "effective_number_of_trials",
    "expected_maximum_sharpe",
    "false_discovery_rates",
    "haircut_sharpe",
    "level_of_best",
    "max_drawdown",
    "minimum_backtest_length",
    "minimum_track_record_length",
    "moments",
    "optimal_block_length",
    "probabilistic_sharpe_ratio",
    "probability_of_backtest_overfitting",
    "rademacher_bounds",
    "rademacher_complexity",
    "search_p_value",
    "sharpe_ratio",
    "sharpe_standard_error",
    "sharpe_test_power",
    "sortino_ratio",
    "stepwise_superior_trials",
    "variance_of_maximum",
    "win_rate",
]
