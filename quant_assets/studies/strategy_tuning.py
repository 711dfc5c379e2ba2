"""Tuning judged by trading: net Sharpe ratio of the out-of-fold track, each trial in the ledger, and its tables."""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.errors import ValidationError
from quant_assets.common.files import Location
from quant_assets.common.hashing import json_digest
from quant_assets.common.places import home_dir
from quant_assets.common.provenance import closure_of
from quant_assets.common.settings import LAST_CLOSE, DelistingConfig, StrategyConfig, TuningConfig
from quant_assets.common.store import Table
from quant_assets.datasets.training_set import decidable_rows, feature_names_of
from quant_assets.gates.evidence import Look, enter_trial
from quant_assets.ledgers.trials import TrialLedger
from quant_assets.models.training_arrays import training_arrays, unseen_rows
from quant_assets.models.tuning import Search, TrialRecord, best_trial, tune
from quant_assets.models.tuning_study import nested
from quant_assets.statistics.sharpe import sharpe_ratio
from quant_assets.trading.paths import path_returns

# ----------------------------------------------------------------------------------- tuning judged by trading

# The objective is the net Sharpe ratio and not the rank correlation, because that is what the candidate is gated on:
# the deflated Sharpe ratio (Bailey and Lopez de Prado 2014, JPM 40(5)) corrects for having taken the best of N
# configurations *by Sharpe ratio*, and it sees turnover and costs, which a correlation does not.
#
# Tuning and the candidate's cross-validation read the same training window. That is no leak into the holdout, but the
# candidate's Sharpe ratio is that of a winner, which is what the rows are for: N and the spread of the trials' Sharpe
# ratios reach the deflation by themselves.


FORMAT = "quant_assets.tuning/1"


class NetSharpe:
    """Judges scores by what trading them would have given, and enters every track into the trial ledger.

    Parameters
    ----------
    rows : polars.DataFrame
        ``symbol, session`` of every row that is scored.
    bars : polars.DataFrame
        Adjusted panel.
    strategy : StrategyConfig
        Portfolio and costs.
    delisting : DelistingConfig
        Of the universe.
    root : Path or UPath
        The platform's home: trials are below ``trials/``.
    look : Look
        Who looks; its idea is that of what the training set and the bars are made from.
    """

    def __init__(
        self,
        rows: pl.DataFrame,
        bars: pl.DataFrame,
        strategy: StrategyConfig,
        delisting: DelistingConfig,
        root: Location,
        look: Look,
        members: pl.DataFrame | None = None,
    ) -> None:
        self._rows, self._strategy, self._delisting = rows.select("symbol", "session"), strategy, delisting
        self._root, self._look, self._panel, self._members = root, look, bars, members
        self._search = search_digest(strategy, delisting)
        self._bars = bars_of(rows, bars)
        self._counted = {t.fingerprint for t in TrialLedger(root).records(look.book)}

    def fold_value(self, rows: NDArray[np.int64], scores: NDArray[np.float64]) -> float:
        """Net Sharpe ratio per session of trading one fold's scores alone; 0 when nothing was traded."""
        return net_sharpe(fold_returns(self._rows[rows], scores, self._bars, self._strategy, self._delisting))

    def track_value(
        self, params: Mapping[str, int | float], scores: NDArray[np.float64]
    ) -> tuple[float, str]:
        """Net Sharpe ratio per session of the whole track, and the fingerprint of its ledger row.

        The idea is the parameters: the same ones, drawn by a later search on newer data, go on with their own track.
        """
        returns = track_returns(self._rows, scores, self._bars, self._strategy, self._delisting)
        idea = json_digest([self._look.idea, self._search, dict(params)])
        trial = enter_trial(
            self._root, replace(self._look, idea=idea), Table(returns), self._panel, self._members
        )
        self._counted.add(trial.fingerprint)
        return net_sharpe(returns), trial.fingerprint

    def is_counted(self, fingerprint: str) -> bool:
        """Whether the ledger has this row."""
        return fingerprint in self._counted


def bars_of(rows: pl.DataFrame, bars: pl.DataFrame) -> pl.DataFrame:
    """The bars of the symbols of some rows."""
    return bars.filter(pl.col("symbol").is_in(rows["symbol"].unique().to_list()))


def fold_returns(
    rows: pl.DataFrame,
    scores: NDArray[np.float64],
    bars: pl.DataFrame,
    strategy: StrategyConfig,
    delisting: DelistingConfig,
) -> pl.DataFrame:
    """What trading the scores of one fold's rows would have given."""
    predictions = rows.with_columns(pl.Series("path_0", scores))
    return path_returns(predictions, bars, strategy.portfolio, strategy.costs, delisting)


def track_returns(
    rows: pl.DataFrame,
    scores: NDArray[np.float64],
    bars: pl.DataFrame,
    strategy: StrategyConfig,
    delisting: DelistingConfig,
) -> pl.DataFrame:
    """What trading the scores of all rows would have given.

    Rows without a score (folds that a pruned or failed trial never reached) are all tied, and a session whose
    scores order nothing holds cash. So the track is as long as every other, and holds the returns that were
    seen and no others. With a share f of the folds seen, its Sharpe ratio is about sqrt(f) of theirs.
    """
    return fold_returns(rows, np.nan_to_num(scores, nan=0.0), bars, strategy, delisting)


def net_sharpe(returns: pl.DataFrame) -> float:
    """Net Sharpe ratio per session; 0 where nothing was traded."""
    ratio = float(sharpe_ratio(returns["net_return"].to_numpy()))
    return 0.0 if np.isnan(ratio) else ratio


# What fits and judges a trial. The ledger that counts it and the gates that read it shape none.
TRIAL_CODE = (tune, decidable_rows, bars_of, track_returns, net_sharpe)


def search_digest(strategy: StrategyConfig, delisting: DelistingConfig) -> str:
    """Digest of what shapes the track of given parameters, beside the data: configuration and code."""
    own = strategy.shaping_code
    return json_digest(
        {
            "delisting": delisting.model_dump(mode="json"),
            "models": strategy.models.model_dump(mode="json"),
            "folds": _tuning_of(strategy).folds,
            "seed": strategy.seed,
            "embargo_sessions": strategy.validation.embargo_sessions,
            "portfolio": strategy.portfolio.model_dump(mode="json"),
            "costs": strategy.costs.model_dump(mode="json"),
            "code": [closure_of(function).digest for function in TRIAL_CODE],
            **({"own": own} if own else {}),
        }
    )


def study_name_of(
    strategy: StrategyConfig,
    look: Look,
    training_set_version: str,
    bars_version: str,
    delisting: DelistingConfig = LAST_CLOSE,
) -> str:
    """Name of the study: a digest of all that shapes a trial (data, configuration, code) and of the book that it
    counts in, so that none is taken for another's.

    ``n_trials`` is left out: trial k is the same however many follow it, and a longer search goes on from a
    shorter one.
    """
    tuning = _tuning_of(strategy)
    digest = json_digest(
        {
            "training_set": training_set_version,
            "bars": bars_version,
            "book": look.book,
            "idea": look.idea,
            "search": search_digest(strategy, delisting),
            "tuning": tuning.model_dump(mode="json", exclude={"n_trials"}),
            "ranges": {k: r.model_dump() for k, r in tuning.ranges(strategy.models).items()},
        }
    )
    return f"{strategy.name}-{digest[:32]}"


def tune_strategy(
    strategy: StrategyConfig,
    training_set: Table,
    scored: pl.DataFrame,
    bars: pl.DataFrame,
    *,
    delisting: DelistingConfig = LAST_CLOSE,
    training_set_version: str,
    bars_version: str,
    home: Location,
    look: Look,
    members: pl.DataFrame | None = None,
    url: str | None = None,
    n_jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Tune a strategy's learners on its training set and count every trial.

    Parameters
    ----------
    strategy : StrategyConfig
        With a ``tuning`` section.
    training_set : Table
        The training window; the holdout is not in it.
    scored : polars.DataFrame
        Every decidable row of that window, as `quant_assets.datasets.training_set.decidable_rows`.
    bars : polars.DataFrame
        Adjusted panel to trade on.
    delisting : DelistingConfig
        Of the universe.
    training_set_version, bars_version : str
        Data versions of the two; the scored rows follow from the first.
    home : Path or UPath
        The trial ledger is below it.
    look : Look
        Who looks; its idea is that of what the training set and the bars are made from.
    members : polars.DataFrame, optional
        As `quant_assets.gates.evidence.panel_digest`.
    url : str, optional
        Of the storage, by default `quant_assets.models.tuning_study.storage_url` of the home when that is a
        folder, and of the local folder beside it when it is a URL.
    n_jobs : int, optional
        Folds fitted at the same time. The result does not depend on it.
    progress : callable, optional
        Called with (trials ended, trials in all).

    Returns
    -------
    dict
        Plain data: ``study``, ``objective``, ``space``, ``best`` (``trial``, ``value``, ``params`` by learner),
        and ``trials``, one mapping per trial with the fields of `quant_assets.models.tuning.TrialRecord`. Values
        are net Sharpe ratios per session. Nothing in it depends on storage, time or interruptions.

    Raises
    ------
    ModelError, StoreError, ConfigurationError
        As `quant_assets.models.tuning.tune` and `quant_assets.models.tuning_study.storage_url`.
    LedgerError
        When the trial ledger is damaged.
    """
    from quant_assets.models.tuning_study import storage_url

    tuning, names = _tuning_of(strategy), feature_names_of(training_set)
    study = study_name_of(strategy, look, training_set_version, bars_version, delisting)
    search = Search(
        training_arrays(training_set.frame, names, strategy.models.label_kind),
        unseen_rows(scored, names),
        tuple(names),
        strategy.models,
        tuning,
        strategy.seed,
        strategy.validation.embargo_sessions,
        n_jobs,
    )
    judge = NetSharpe(scored, bars, strategy, delisting, home, look, members)
    local = home if isinstance(home, Path) else home_dir()
    records = tune(
        search, judge, url=url or storage_url(local, strategy.name), study_name=study, progress=progress
    )
    best = best_trial(records)
    return {
        "format": FORMAT,
        "strategy": strategy.name,
        "study": study,
        "objective": "net Sharpe ratio per session of the out-of-fold track",
        "sampler": tuning.sampler,
        "pruning": tuning.pruning,
        "folds": tuning.folds,
        "seed": strategy.seed,
        "space": {k: r.model_dump() for k, r in tuning.ranges(strategy.models).items()},
        "best": {"trial": best.number, "value": best.value, "params": nested(best.params)},
        "trials": [_plain(record) for record in records],
    }


def _plain(record: TrialRecord) -> dict[str, Any]:
    return {
        "number": record.number,
        "state": record.state,
        "value": record.value,
        "params": dict(record.params),
        "fold_values": list(record.fold_values),
        "fingerprint": record.fingerprint,
        "reason": record.reason,
    }


def _tuning_of(strategy: StrategyConfig) -> TuningConfig:
    if strategy.tuning is None:
        raise ValidationError(
            f"strategy {strategy.name}",
            expected="a tuning section",
            found="none",
            action="add `tuning: {n_trials: 40}` to its file",
        )
    return strategy.tuning


# -------------------------------------------------------------------------------------------- what people see


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
