"""What people see of a tuning: the table of trials, the importance of parameters, the history of the search.

All of it is made from the result alone; the study's storage is not read.
"""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import polars as pl

# Below this, the best tenth of the trials is less than one trial.
FEWEST_TRIALS_FOR_IMPORTANCE = 10


def trials_table(result: Mapping[str, Any], sessions_per_year: float) -> pl.DataFrame:
    """One row per trial: number, state, net Sharpe ratio (annual), parameters, folds seen, ledger row, reason."""
    scale = math.sqrt(sessions_per_year)
    rows = [
        {
            "trial": trial["number"],
            "state": trial["state"],
            "sharpe_annual": None if trial["value"] is None else trial["value"] * scale,
            "folds_sharpe_annual": ", ".join(f"{value * scale:.2f}" for value in trial["fold_values"]),
            **trial["params"],
            "ledger_row": (trial["fingerprint"] or "not counted")[:12],
            "reason": trial["reason"],
        }
        for trial in result["trials"]
    ]
    return pl.DataFrame(rows, schema_overrides={"sharpe_annual": pl.Float64, "reason": pl.String})


def importance_of(result: Mapping[str, Any]) -> pl.DataFrame:
    """Share of each parameter in what tells the best tenth of the completed trials from the rest.

    PED-ANOVA (Watanabe, Bansal and Hutter 2023, IJCAI): no random numbers, so equal results have equal shares.

    Returns
    -------
    polars.DataFrame
        ``parameter, importance``, largest first; no rows with fewer than ten completed trials, or values that do
        not differ: nothing can be told apart then.
    """
    import optuna
    from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    completed = [t for t in result["trials"] if t["state"] == "complete"]
    schema = {"parameter": pl.String, "importance": pl.Float64}
    if len(completed) < FEWEST_TRIALS_FOR_IMPORTANCE or len({t["value"] for t in completed}) < 2:
        return pl.DataFrame(schema=schema)
    distributions: dict[str, BaseDistribution] = {
        name: IntDistribution(int(r["low"]), int(r["high"]), log=r["log"])
        if isinstance(completed[0]["params"][name], int)
        else FloatDistribution(r["low"], r["high"], log=r["log"])
        for name, r in result["space"].items()
    }
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    for trial in completed:
        study.add_trial(
            optuna.trial.create_trial(
                params=dict(trial["params"]), distributions=distributions, value=trial["value"]
            )
        )
    with warnings.catch_warnings():  # that local evaluation discards trials is the method itself
        warnings.filterwarnings("ignore", module="optuna")
        shares = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    ordered = sorted(shares.items(), key=lambda item: (-item[1], item[0]))
    return pl.DataFrame(ordered, schema=schema, orient="row")


def history_plot(result: Mapping[str, Any], sessions_per_year: float) -> str:
    """Every trial's net Sharpe ratio and the best so far, as a data URI; pruned and failed ones at the bottom."""
    from matplotlib.ticker import MaxNLocator

    from quant_assets.common.pages import ACCENT, BAD, FAN, figure_png, png_data_uri, themed_figure

    scale = math.sqrt(sessions_per_year)
    completed = [(t["number"], t["value"] * scale) for t in result["trials"] if t["state"] == "complete"]
    numbers, values = zip(*completed, strict=True)
    best = [max(values[: i + 1]) for i in range(len(values))]
    with themed_figure(7.0, 2.8) as (figure, axes):
        axes.scatter(numbers, values, color=FAN, s=22, label="trial")
        axes.step(numbers, best, where="post", color=ACCENT, label="best so far")
        for state, marker in (("pruned", "|"), ("failed", "x")):
            ended = [t["number"] for t in result["trials"] if t["state"] == state]
            if ended:
                floor = [min(values)] * len(ended)
                axes.scatter(ended, floor, marker=marker, color=BAD, s=30, label=f"{state} (no value)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("trial")
        axes.set_ylabel("annual net Sharpe ratio")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        return png_data_uri(figure_png(figure))
