"""Change the bars after a session: nothing that was decided at or before it may change.

Each stage is fed with what it would have got if the stages before it were clean (rows settled by the cut from the
original bars, later rows from the altered ones), so a leak shows in the stage that makes it and nowhere else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import polars as pl

from quant_assets.common.settings import StrategyConfig, UniverseConfig
from quant_assets.common.store import Table
from quant_assets.datasets.training_set import TARGET, feature_names_of
from quant_assets.validation.leakage.alterations import difference, rescaled, spliced, with_altered_future
from quant_assets.validation.leakage.report import Evidence, Stage, evidence_of
from quant_assets.validation.leakage.stages import Pipeline

LABEL_VALUES = ("t0", "t1", "known_at", "forward_return")
# Labels published this much later must leave a training set that ends before that.
DELAY = timedelta(days=30)


@dataclass(frozen=True)
class Original:
    """What the stages make of the bars as they are."""

    bars: pl.DataFrame
    features: pl.DataFrame
    labels: pl.DataFrame
    training_set: Table
    known_by: datetime

    @property
    def inputs(self) -> tuple[str, ...]:
        """Columns of the features frame."""
        return tuple(c for c in self.features.columns if c not in ("symbol", "session"))


@dataclass
class _Tally:
    """One experiment over several cuts."""

    checked: int = 0
    violations: int = 0
    moved: int = 0
    offenders: tuple[str, ...] = ()

    def add(
        self,
        before: pl.DataFrame,
        after: pl.DataFrame,
        columns: Sequence[str],
        settled: pl.Expr,
    ) -> None:
        same = difference(before.filter(settled), after.filter(settled), columns)
        self.checked += same.checked
        self.violations += same.violations
        self.offenders = self.offenders or same.columns
        self.moved += difference(before.filter(~settled), after.filter(~settled), columns).violations

    def evidence(self, stage: Stage, experiment: str, question: str) -> Evidence:
        return evidence_of(
            stage, experiment, checked=self.checked, violations=self.violations, moved=self.moved,
            offenders=self.offenders, question=question,
        )  # fmt: skip


def altered_future(
    original: Original,
    universe: UniverseConfig,
    strategy: StrategyConfig,
    pipeline: Pipeline,
    cuts: Sequence[date],
) -> tuple[Evidence, ...]:
    """Features, labels and training set, for each cut."""
    features, labels, rows, targets = _Tally(), _Tally(), _Tally(), _Tally()
    for cut in cuts:
        known_by: datetime = original.bars.filter(pl.col("session") == cut)["known_at"][0]
        bars = with_altered_future(original.bars, cut)
        decided, settled = pl.col("session") <= cut, pl.col("known_at") <= known_by
        new_features = pipeline.features(bars, strategy)
        new_labels = pipeline.labels(bars, universe, strategy)
        features.add(original.features, new_features, original.inputs, decided)
        # Whether a label was known by then is what the *original* says: a label cannot excuse itself.
        known = original.labels.filter(settled).select("symbol", "session", _known=True)
        before, after = (
            f.join(known, on=["symbol", "session"], how="left") for f in (original.labels, new_labels)
        )
        labels.add(before, after, LABEL_VALUES, pl.col("_known").is_not_null())
        clean_features = spliced(original.features, new_features, decided)
        clean_labels = _spliced_labels(original.labels, new_labels, known_by)
        table = pipeline.training_set(clean_features, clean_labels, strategy, original.known_by)
        names = feature_names_of(original.training_set)
        rows.add(original.training_set.frame, table.frame, names, decided)
        targets.add(original.training_set.frame, table.frame, ("t0", "t1", "known_at", TARGET), settled)
    what = "bars after a session altered"
    return (
        features.evidence("features", what, "feature values moved when later bars changed"),
        labels.evidence("labels", what, "values of labels already known moved when later bars changed"),
        rows.evidence("training_set", what, "model inputs moved when later bars and labels changed"),
        targets.evidence("training_set", f"{what}, targets", "known targets moved when later bars changed"),
    )


def _spliced_labels(before: pl.DataFrame, after: pl.DataFrame, known_by: datetime) -> pl.DataFrame:
    settled = before.filter(pl.col("known_at") <= known_by)
    later = after.join(settled.select("symbol", "session"), on=["symbol", "session"], how="anti")
    return pl.concat([settled, later]).sort("session", "symbol")


def rescaled_history(
    original: Original, universe: UniverseConfig, strategy: StrategyConfig, pipeline: Pipeline
) -> tuple[Evidence, ...]:
    """A later split rescales the whole adjusted history: nothing may read the level of prices."""
    bars = rescaled(original.bars)
    outputs: tuple[tuple[Stage, pl.DataFrame, pl.DataFrame, Sequence[str]], ...] = (
        ("features", original.features, pipeline.features(bars, strategy), original.inputs),
        ("labels", original.labels, pipeline.labels(bars, universe, strategy), LABEL_VALUES),
    )
    found = [(stage, difference(before, after, columns)) for stage, before, after, columns in outputs]
    return tuple(
        evidence_of(
            stage,
            "history rescaled as by a later split",
            checked=d.checked,
            violations=d.violations,
            moved=None,
            offenders=d.columns,
            question="values moved with the scale of prices",
        )
        for stage, d in found
    )


def stated_times(original: Original, universe: UniverseConfig) -> tuple[Evidence, ...]:
    """Bars are known at the close of their session at the earliest, labels after what they measure."""
    from quant_assets.market.calendar import session_times

    closes = session_times(universe.calendar, universe.start, universe.end).select("session", "close_at")
    bars = original.bars.join(closes, on="session", how="left")
    early = bars.filter(~(pl.col("known_at") >= pl.col("close_at")).fill_null(False))
    labels = original.labels.join(closes, on="session", how="left")
    in_order = (
        (pl.col("t0") >= pl.col("close_at"))
        & (pl.col("t1") > pl.col("t0"))
        & (pl.col("known_at") >= pl.col("t1"))
    )
    disordered = labels.filter(~in_order.fill_null(False))
    found: tuple[tuple[Stage, pl.DataFrame, int, str], ...] = (
        ("bars", early, bars.height, "bars say that they were known before the close of their session"),
        ("labels", disordered, labels.height, "labels break close of decision <= t0 < t1 <= known_at"),
    )
    return tuple(
        evidence_of(
            stage, "stated times against the calendar", checked=checked, violations=wrong.height, moved=None,
            offenders=[f"{symbol} on {session}" for symbol, session in wrong.select("symbol", "session").rows()],
            question=question,
        )
        for stage, wrong, checked, question in found
    )  # fmt: skip


def shifted_known_at(
    original: Original, strategy: StrategyConfig, pipeline: Pipeline, cuts: Sequence[date]
) -> Evidence:
    """Training sets of earlier days, from labels as published and from labels published 30 days later."""
    checked = violations = moved = 0
    offenders: list[str] = []
    delayed = original.labels.with_columns(pl.col("known_at") + DELAY)
    closes = original.bars.filter(pl.col("session").is_in(list(cuts)))["known_at"].unique().to_list()
    for known_by in sorted({*closes, original.known_by}):
        sizes = []
        for labels in (original.labels, delayed):
            frame = pipeline.training_set(original.features, labels, strategy, known_by).frame
            # The truth about when a label is known is the label's, not what the training set says of it.
            truth = frame.select("symbol", "session").join(
                labels.select("symbol", "session", "known_at"), on=["symbol", "session"], how="left"
            )
            unknown = truth.filter(~(pl.col("known_at") <= known_by).fill_null(False))
            checked += frame.height
            violations += unknown.height
            offenders += [f"{s} on {d}" for s, d, _ in unknown.head(3).rows()]
            sizes.append(frame.height)
        moved += max(0, sizes[0] - sizes[1])
    return evidence_of(
        "training_set", "labels published later", checked=checked, violations=violations, moved=moved,
        offenders=offenders, question="training rows have a label that was not known in time",
    )  # fmt: skip
