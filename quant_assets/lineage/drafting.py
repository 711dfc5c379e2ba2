"""A draft: what a configuration would be worth, without what makes it evidence, in a fraction of the time.

The lineage up to the training set as ever; then each base learner once in each split, their mean as the score,
traded and judged as paths are. No stacker, no candidate, no report, no bundle: nothing of it can be promoted, because
nothing of it is a candidate or about one. It shows outcomes, so it is a trial of kind ``draft`` in the same ledger,
with the returns seen, and later full runs are deflated by it like by any other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from quant_assets.artifacts.signed_fits import KeptFits
from quant_assets.common.configuration import parse
from quant_assets.common.errors import ConfigurationError
from quant_assets.common.hashing import json_digest
from quant_assets.common.home import Home
from quant_assets.common.provenance import closure_of
from quant_assets.common.settings import StrategyConfig
from quant_assets.common.store import Table
from quant_assets.datasets.training_set import feature_names_of
from quant_assets.gates.evidence import Look, enter_trial, judge_candidate
from quant_assets.gates.verdicts import GateReport
from quant_assets.ledgers.trial_records import DRAFT, Trial
from quant_assets.ledgers.trials import TrialLedger
from quant_assets.lineage.configured import Settings, require_usable
from quant_assets.lineage.graph import Lineage
from quant_assets.lineage.notebook import run
from quant_assets.lineage.scope import Progress, quiet
from quant_assets.market.calendar import periods_per_year
from quant_assets.models.draft_prediction import draft_predict
from quant_assets.models.kept_fits import FitStore
from quant_assets.trading.path_figures import PathStatistics
from quant_assets.trading.paths import median_path, path_returns, path_statistics

RUN_ID = "try"
NEEDED = ("bars", "training_set", "scored_rows")
MEMBERS = "member_rows"


@dataclass(frozen=True)
class Draft:
    """What a draft showed.

    Attributes
    ----------
    strategy : StrategyConfig
        As it was tried, changes included.
    predictions, paths : Table
        As ``cpcv_predictions`` and ``cpcv_paths`` hold them; the recipe that they name is no candidate's.
    trial : Trial
    n_trials : int
        Of the book, this one included.
    median : PathStatistics
        Of the path with the median Sharpe ratio.
    report : GateReport
        What the gates would say. Its subject is the draft.
    fitted, found : int
        Learners of a split that were fitted, and that an earlier draft had fitted.
    """

    strategy: StrategyConfig
    predictions: Table
    paths: Table
    trial: Trial
    n_trials: int
    median: PathStatistics
    report: GateReport
    fitted: int
    found: int

    def verdict(self, gate: str) -> float | None:
        """What a gate observed, by its name; None where it observed nothing."""
        return next((v.observed for v in self.report.verdicts if v.gate == gate), None)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "strategy": self.strategy.name,
            "median_sharpe_annual": _finite(self.median.sharpe_annual),
            "deflated_sharpe_probability": self.verdict("cpcv_deflated_sharpe"),
            "turnover_per_session": self.median.turnover_per_session,
            "drawdown_fraction": self.median.drawdown_fraction,
            "n_trials": self.n_trials,
            "book": self.trial.book,
            "trial": self.trial.fingerprint,
            "kind": self.trial.kind,
            "would_be": {verdict.gate: verdict.status for verdict in self.report.verdicts},
            "learners_fitted": self.fitted,
            "learners_found": self.found,
        }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


@dataclass
class _Counted:
    """A store of fits that knows how many were found and made."""

    store: FitStore
    found: int = field(default=0)
    made: int = field(default=0)

    def find(self, key: str) -> bytes | None:
        data = self.store.find(key)
        self.found += data is not None
        return data

    def keep(self, key: str, data: bytes) -> None:
        self.made += 1
        self.store.keep(key, data)


def changed(settings: Settings, strategy: str, changes: Mapping[str, Any]) -> Settings:
    """A configuration in which one strategy says something else.

    Parameters
    ----------
    changes : mapping of str to plain data
        By dotted name, as in ``models.lightgbm.num_leaves``.

    Raises
    ------
    ConfigurationError
        For an unknown strategy, a name that its section does not have, or whatever a strategy's file is refused for:
        a value that it does not take, less than the minima, a looser gate, a plug-in that is not there.
    """
    plan = Lineage(settings).scope(strategy).plan
    said = plan.model_dump(mode="json")
    for name, value in changes.items():
        section, parts = said, name.split(".")
        for part in parts[:-1]:
            if not isinstance(section.get(part), dict):
                section[part] = {}
            section = section[part]
        section[parts[-1]] = value
    where = f"strategy {strategy} with {', '.join(changes) or 'no change'}"
    tried = parse(StrategyConfig, said, Path(where))
    if tried.name != strategy:
        raise ConfigurationError(
            where,
            expected="its own name: trials are counted by it",
            found=f"name {tried.name!r}",
            action="write another strategy's file for another name",
        )
    require_usable(settings, tried, where)
    return settings.with_strategy(tried)


def draft(
    strategy: str,
    settings: Settings,
    *,
    home: Home | None = None,
    progress: Progress = quiet,
    n_jobs: int | None = None,
) -> Draft:
    """Try a strategy. The trial is in the ledger before anything is shown.

    Parameters
    ----------
    strategy : str
        Name of a configured strategy.
    settings : Settings
        Where it is configured, with what is `changed`. A search for parameters is not run: the learners are fitted
        as they are configured.
    home : Home, optional
        Where the trial is counted and fits are kept; the platform's home when not given.
    progress : callable, optional
        Called with what is counted; gives a callback for (done, total).
    n_jobs : int, optional
        Splits fitted at the same time; no result depends on it.

    Returns
    -------
    Draft
        The same draft again is the same trial.

    Raises
    ------
    ConfigurationError
        For an unknown strategy.
    QuantAssetsError
        Whatever a stage raises.
    """
    place, lineage = home or Home(), Lineage(settings)
    scope = lineage.scope(strategy)
    plan, universe = scope.plan, scope.bars
    made = run(strategy, settings, NEEDED, home=place, progress=progress, n_jobs=n_jobs)
    training_set, bars = made.table("training_set"), made.table("bars").frame
    fits = _Counted(KeptFits(place, "draft", RUN_ID))
    frame = draft_predict(
        training_set.frame,
        feature_names_of(training_set),
        plan.models,
        plan.validation,
        seed=plan.seed,
        scored=made.table("scored_rows").frame,
        n_jobs=n_jobs,
        progress=progress("splits"),
        fits=fits,
    )
    idea = _idea(lineage, strategy, plan)
    recipe = f"{DRAFT}:{idea}"  # no candidate's: theirs are digests
    paths = Table(
        path_returns(frame, bars, plan.portfolio, plan.costs, universe.delisting), {"recipe": recipe}
    )
    # Where the strategy decides on members alone, they are part of the history that is looked at.
    members = made.table(MEMBERS).frame if (universe.name, MEMBERS) in made.artifacts else None
    look = Look(scope.book, strategy, idea, RUN_ID)
    trial = enter_trial(place.path, look, paths, bars, members, kind=DRAFT)
    ledger, limits = TrialLedger(place.path), settings.gates.for_strategy(plan.gates)
    snapshot, per_year = ledger.snapshot(scope.book), periods_per_year(*scope.sessions)
    streams = ledger.returns_matrix(scope.book) if len(snapshot.sharpes) > 1 else None
    report = judge_candidate(recipe, paths.frame, snapshot, limits, per_year, streams)
    median = median_path(path_statistics(paths.frame, per_year, standard=limits.psr_standard))
    predictions = Table(frame, {"recipe": recipe})
    return Draft(plan, predictions, paths, trial, snapshot.n_trials, median, report, fits.made, fits.found)


def _idea(lineage: Lineage, strategy: str, plan: StrategyConfig) -> str:
    """What tells one draft from another: everything behind its rows, and what shapes its scores and positions."""
    owner = lineage.scope(strategy).bars.name
    keys = [key for key in ((strategy, n) for n in NEEDED) if key in lineage.nodes]
    keys += [key for key in ((owner, n) for n in NEEDED) if key in lineage.nodes]
    shaping = plan.model_dump(mode="json", include={"seed", "validation", "portfolio", "costs"})
    models = plan.models.model_dump(mode="json", exclude={"stacker", "binning"})
    code = [closure_of(function).digest for function in (draft_predict, path_returns)]
    # What a desk's own code is called says nothing of what it does.
    own = plan.shaping_code
    return json_digest([DRAFT, lineage.idea(keys, {}), shaping, models, code, *([own] if own else [])])


def parsed_changes(texts: Sequence[str]) -> dict[str, Any]:
    """``name=value`` pairs, values read as YAML.

    Raises
    ------
    ConfigurationError
        For a text without a name or an equals sign, or a value that is no YAML.
    """
    import yaml

    changes: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            read = yaml.safe_load(value)
        except yaml.YAMLError as error:
            equals, read = "", error
        if not (name.strip() and equals):
            raise ConfigurationError(
                f"change {text!r}",
                expected="name=value, as models.lightgbm.num_leaves=31",
                found="no name, no equals sign, or a value that is no YAML",
                action="write it as a strategy's file would say it, with dots between sections",
            )
        changes[name.strip()] = read
    return changes
