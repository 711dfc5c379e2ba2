"""What the leakage prover has on trial, and what it found: evidence for each stage, and the stages that leak."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal, Protocol, get_args

import polars as pl

from quant_assets.common.settings import ModelsConfig, StrategyConfig, UniverseConfig, ValidationConfig
from quant_assets.common.store import Table
from quant_assets.splits.purging import Split

# ---------------------------------------------------------------------------------------- the stages on trial


Bars = Callable[[pl.DataFrame, UniverseConfig, StrategyConfig], pl.DataFrame]
Features = Callable[[pl.DataFrame, StrategyConfig], pl.DataFrame]
Labels = Callable[[pl.DataFrame, UniverseConfig, StrategyConfig], pl.DataFrame]
TrainingSet = Callable[[pl.DataFrame, pl.DataFrame, StrategyConfig, datetime], Table]
Scored = Callable[[pl.DataFrame, pl.DataFrame, Table, StrategyConfig], pl.DataFrame]
Splits = Callable[[Any, Any, StrategyConfig], Iterator[Split]]
Decisions = Callable[[pl.DataFrame, pl.DataFrame, StrategyConfig], pl.DataFrame]


class CrossPredict(Protocol):
    """Out-of-sample scores of every row on every path, as `quant_assets.models.cross_prediction.cross_predict`."""

    def __call__(
        self,
        frame: pl.DataFrame,
        feature_names: Sequence[str],
        models: ModelsConfig,
        validation: ValidationConfig,
        *,
        seed: int,
    ) -> pl.DataFrame:
        """Columns ``symbol, session, path_0 ...``, rows as in ``frame``."""


@dataclass(frozen=True)
class Pipeline:
    """The functions that a strategy's path consists of.

    Attributes
    ----------
    bars : (raw bars, universe, strategy) -> adjusted panel
    features : (bars, strategy) -> frame ``symbol, session, ...``
    labels : (bars, universe, strategy) -> frame with ``t0, t1, known_at, forward_return``
    training_set : (features, labels, strategy, known_by) -> Table
    scored : (features, bars, training_set, strategy) -> frame ``symbol, session, t0``: what a decision is made on
    splits, inner_splits : (t0, t1, strategy) -> iterator of (train, test) row positions
    cross_predict : see `CrossPredict`
    decisions : (predictions, bars, strategy) -> path returns, one row per path and session of the fill
    """

    bars: Bars
    features: Features
    labels: Labels
    training_set: TrainingSet
    scored: Scored
    splits: Splits
    inner_splits: Splits
    cross_predict: CrossPredict
    decisions: Decisions


# ------------------------------------------------------------------------------ what the leakage prover found


# In the order of the lineage. "models" is everything that is fitted inside a split: scalers, learners, stacker.
Stage = Literal["bars", "features", "labels", "training_set", "scored_rows", "folds", "models", "decisions"]
STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass(frozen=True)
class Evidence:
    """One experiment on one stage.

    Attributes
    ----------
    stage : Stage
        Fed with inputs that are clean by construction, so a violation is this stage's own.
    experiment : str
        What was changed.
    checked, violations : int
        Values that must not have moved, and those that did.
    moved : int or None
        Values that were allowed to move, and did. An experiment in which nothing moved proves nothing. None where
        nothing is changed, only looked at.
    finding : str
        One sentence.
    """

    stage: Stage
    experiment: str
    checked: int
    violations: int
    moved: int | None
    finding: str

    @property
    def proven(self) -> bool:
        """Whether the experiment could have found something."""
        return self.checked > 0 and self.moved != 0

    @property
    def passed(self) -> bool:
        """Only an experiment that could have found something, and did not, is passed."""
        return self.proven and self.violations == 0


@dataclass(frozen=True)
class LeakageReport:
    """Evidence about one strategy on one panel of bars.

    Attributes
    ----------
    strategy, universe : str
    rows : int
        Bars.
    evidence : tuple of Evidence
        In the order of the lineage.
    """

    strategy: str
    universe: str
    rows: int
    evidence: tuple[Evidence, ...]

    @property
    def passed(self) -> bool:
        """True only when every stage has evidence and all of it is passed."""
        covered = {e.stage for e in self.evidence}
        return covered == set(STAGES) and all(e.passed for e in self.evidence)

    @property
    def leaking_stages(self) -> tuple[Stage, ...]:
        """Stages in which something moved that must not, in the order of the lineage."""
        found = {e.stage for e in self.evidence if e.violations}
        return tuple(stage for stage in STAGES if stage in found)

    @property
    def unproven_stages(self) -> tuple[Stage, ...]:
        """Stages with an experiment that could not have found anything, or with none at all."""
        shown = {s for s in STAGES if any(e.stage == s for e in self.evidence)}
        idle = {e.stage for e in self.evidence if not e.proven and not e.violations}
        return tuple(stage for stage in STAGES if stage in idle or stage not in shown)

    @property
    def summary(self) -> str:
        """One sentence for people."""
        if self.passed:
            return f"{len(self.evidence)} experiments on {len(STAGES)} stages found no leak"
        worst = [f"{e.stage}: {e.finding}" for e in self.evidence if not e.passed]
        missing = [f"{s}: no experiment" for s in STAGES if all(e.stage != s for e in self.evidence)]
        return "; ".join([*worst, *missing])

    def table(self) -> pl.DataFrame:
        """One row for each experiment."""
        rows = [asdict(e) | {"passed": e.passed} for e in self.evidence]
        columns = ("stage", "experiment", "passed", "checked", "violations", "moved", "finding")
        return pl.DataFrame(rows, schema_overrides={"moved": pl.Int64}).select(columns)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "strategy": self.strategy,
            "universe": self.universe,
            "rows": self.rows,
            "passed": self.passed,
            "leaking_stages": list(self.leaking_stages),
            "unproven_stages": list(self.unproven_stages),
            "evidence": [asdict(e) | {"passed": e.passed} for e in self.evidence],
        }


def evidence_of(
    stage: Stage,
    experiment: str,
    *,
    checked: int,
    violations: int,
    moved: int | None,
    offenders: Sequence[str] = (),
    question: str,
) -> Evidence:
    """Evidence with its sentence.

    Parameters
    ----------
    offenders : sequence of str
        What moved although it must not; the first three are named.
    question : str
        What must not happen, in words, as in ``"features moved when later bars changed"``.
    """
    if violations:
        names = ", ".join(offenders[:3]) + (f" and {len(offenders) - 3} more" if len(offenders) > 3 else "")
        finding = f"{violations} of {checked} {question}{': ' + names if names else ''}"
    elif not checked:
        finding = f"unproven: there was nothing to compare ({question})"
    elif moved == 0:
        finding = f"unproven: the change moved nothing at all ({question})"
    else:
        finding = f"none of {checked} {question}"
    return Evidence(stage, experiment, checked, violations, moved, finding)
