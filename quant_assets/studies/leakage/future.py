"""Change the bars after a session, or the scores: nothing that was decided at or before it may change.

Each stage is fed with what it would have got if the stages before it were clean (rows settled by the cut from the
original bars, later rows from the altered ones), so a leak shows in the stage that makes it and nowhere else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np
import polars as pl

from quant_assets.common.settings import StrategyConfig, UniverseConfig
from quant_assets.common.store import Table
from quant_assets.datasets.training_set import TARGET, feature_names_of
from quant_assets.features.as_known import FOUND_WRONG
from quant_assets.features.causality import SCALES
from quant_assets.features.pack import selected_packs
from quant_assets.studies.leakage.leakage_report import Evidence, Pipeline, Stage, evidence_of
from quant_assets.studies.leakage.rounding import without_rounding

# ------------------------------------------------------------------------------------ changes, and what moved


PRICES = ("open", "high", "low", "close")
FUTURE_SEED = 20


def with_altered_future(bars: pl.DataFrame, cut: date) -> pl.DataFrame:
    """Bars after ``cut`` drawn anew around their own: other levels, other candles, other volumes.

    Every price of every bar has a factor of its own. One factor for a whole bar would leave its open over its close
    as it was, and factors that repeat would leave returns over their period as they were.
    """
    rng = np.random.default_rng(FUTURE_SEED)
    draw = {name: pl.Series(rng.lognormal(0.0, 0.3, bars.height)) for name in ("open", "close", "volume")}
    reach = {name: pl.Series(rng.uniform(0.0, 0.1, bars.height)) for name in ("high", "low")}
    opened, closed = pl.col("open") * draw["open"], pl.col("close") * draw["close"]
    other = {
        "open": opened,
        "high": pl.max_horizontal(opened, closed) * (1.0 + reach["high"]),
        "low": pl.min_horizontal(opened, closed) * (1.0 - reach["low"]),
        "close": closed,
        "volume": pl.col("volume") * draw["volume"] + 1.0,
    }
    later = pl.col("session") > cut
    return bars.with_columns(
        pl.when(later).then(altered).otherwise(pl.col(name)).alias(name) for name, altered in other.items()
    )


def rescaled(bars: pl.DataFrame) -> pl.DataFrame:
    """Bars as a later split would leave them: each symbol's prices times a power of two, volumes over it."""
    rank = pl.col("symbol").rank("dense").cast(pl.Int64)
    scale = pl.lit(pl.Series(SCALES)).gather(rank % len(SCALES))
    return bars.with_columns(*(pl.col(p) * scale for p in PRICES), volume=pl.col("volume") / scale)


def spliced(before: pl.DataFrame, after: pl.DataFrame, settled: pl.Expr) -> pl.DataFrame:
    """Rows of ``before`` that are settled, rows of ``after`` that are not: the next stage's clean input."""
    return pl.concat([before.filter(settled), after.filter(~settled)]).sort("session", "symbol")


@dataclass(frozen=True)
class Difference:
    """How two frames differ over the rows that they must share.

    Attributes
    ----------
    checked, violations : int
        Values compared and values that differ; a row that only one frame has differs in all its values.
    columns : tuple of str
        Those with a difference, with their first row.
    """

    checked: int
    violations: int
    columns: tuple[str, ...]


def difference(
    before: pl.DataFrame,
    after: pl.DataFrame,
    columns: Sequence[str],
    keys: Sequence[str] = ("symbol", "session"),
) -> Difference:
    """Compare columns of two frames row by row, bit by bit; null equals null, NaN equals NaN."""
    one, other = before.select(*keys, *columns), after.select(*keys, *columns)
    lonely = pl.Series([], dtype=pl.Boolean)
    if not one.select(keys).equals(other.select(keys)):  # the join costs ten times the comparison
        pairs = one.with_columns(_one=True).join(
            other.with_columns(_other=True), on=list(keys), how="full", suffix="|", coalesce=True
        )
        lonely = pairs["_one"].is_null() | pairs["_other"].is_null()
        one = pairs.select(*keys, *columns)
        other = pairs.select(*keys, *(pl.col(f"{name}|").alias(name) for name in columns))
    found, violations = [], 0
    for name in columns:
        differs = one[name].ne_missing(other[name])
        if len(lonely):
            differs = differs | lonely
        count = int(differs.sum())
        if count:
            first = one.filter(differs).sort(*reversed(keys)).row(0, named=True)
            found.append(f"{name} ({', '.join(str(first[k]) for k in keys)})")
            violations += count
    return Difference(one.height * len(columns), violations, tuple(found))


# ------------------------------------------------------------------------------------------------- later bars


TRADED = ("turnover", "commission", "spread_cost", "impact_cost", "borrow_cost", "risk_free")
EARNED = ("gross_return", "net_return")
BY_PATH = ("path", "session")
LABEL_VALUES = ("t0", "t1", "known_at", "forward_return", TARGET)
# Labels published this much later must leave a training set that ends before that.
DELAY = timedelta(days=30)


def label_values(labels: pl.DataFrame) -> list[str]:
    """What labels say: times, forward return, and of most kinds a target of its own."""
    return [name for name in LABEL_VALUES if name in labels.columns]


@dataclass(frozen=True)
class Original:
    """What the stages make of the bars as they are."""

    bars: pl.DataFrame
    features: pl.DataFrame
    labels: pl.DataFrame
    training_set: Table
    scored: pl.DataFrame
    known_by: datetime

    def close_of(self, session: date) -> datetime:
        """When the bars of a session are known."""
        moment: datetime = self.bars.filter(pl.col("session") == session)["known_at"][0]
        return moment

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
        keys: Sequence[str] = ("symbol", "session"),
    ) -> None:
        same = difference(before.filter(settled), after.filter(settled), columns, keys)
        self.checked += same.checked
        self.violations += same.violations
        self.offenders = self.offenders or same.columns
        self.moved += difference(before.filter(~settled), after.filter(~settled), columns, keys).violations

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
        known_by = original.close_of(cut)
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
        labels.add(before, after, label_values(original.labels), pl.col("_known").is_not_null())
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


LEAP = 2.0  # a power of two: adjusted closes keep their ratio to raw ones to the bit


def unadjusted(bars: pl.DataFrame) -> pl.DataFrame:
    """Raw bars that would give an adjusted panel."""
    return bars.select(
        "symbol",
        "session",
        *(pl.col(name) / pl.col("price_factor") for name in PRICES),
        pl.col("volume") / pl.col("volume_factor"),
        adj_close="close",
    )


def leaping(raw: pl.DataFrame, names: Sequence[str], first: date, last: date) -> pl.DataFrame:
    """Raw bars in which the prices of some names are `LEAP` times as high between two sessions, both included."""
    there = pl.col("symbol").is_in(list(names)) & pl.col("session").is_between(first, last)
    return raw.with_columns(
        pl.when(there).then(pl.col(name) * LEAP).otherwise(name).alias(name)
        for name in (*PRICES, "adj_close")
    )


def leap_that_stays_or_not(
    original: Original,
    universe: UniverseConfig,
    strategy: StrategyConfig,
    pipeline: Pipeline,
    cuts: Sequence[date],
) -> tuple[Evidence, ...]:
    """Every second name doubles in a session; in one future it comes back at the next open, in the other it stays.

    From raw bars to features: whether the leap was an error is not known at its close, so bars and features of that
    session must not differ. A rule that takes bars out by what came after them takes it out in one future only.
    """
    bars, features = _Tally(), _Tally()
    raw = unadjusted(original.bars)
    end: date = raw.select(pl.col("session").max()).item()
    for cut in cuts:
        known_by = original.close_of(cut)
        names = (
            original.bars.filter(pl.col("session") == cut)["symbol"].unique().sort().gather_every(2).to_list()
        )
        back, stays = (
            _told_by(pipeline.bars(leaping(raw, names, cut, until), universe, strategy), known_by)
            for until in (cut, end)
        )
        decided = pl.col("session") <= cut
        bars.add(back[1], stays[1], (*PRICES, "volume", "known_at", FOUND_WRONG), decided)
        # The features get one past, so that what the bars leak is theirs alone.
        clean = spliced(back[1], stays[0], decided)
        features.add(
            pipeline.features(back[0], strategy), pipeline.features(clean, strategy), original.inputs, decided
        )
    what = "a leap that comes back, or stays"
    return (
        bars.evidence("bars", what, "bars moved with what came after them"),
        features.evidence("features", what, "feature values moved with what a leap turned out to be"),
    )


def _told_by(bars: pl.DataFrame, known_by: datetime) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Bars with the column of when they were found to be wrong, and the same without what was found out later."""
    if FOUND_WRONG not in bars.columns:
        bars = bars.with_columns(pl.lit(None, dtype=pl.Datetime("us", "UTC")).alias(FOUND_WRONG))
    bars = bars.select(
        pl.exclude(FOUND_WRONG), FOUND_WRONG
    )  # in the same place, whichever of the two had one
    told = pl.when(pl.col(FOUND_WRONG) <= known_by).then(FOUND_WRONG)
    return bars, bars.with_columns(told.alias(FOUND_WRONG))


def _spliced_labels(before: pl.DataFrame, after: pl.DataFrame, known_by: datetime) -> pl.DataFrame:
    settled = before.filter(pl.col("known_at") <= known_by)
    later = after.join(settled.select("symbol", "session"), on=["symbol", "session"], how="anti")
    return pl.concat([settled, later]).sort("session", "symbol")


def _seeded_scores(original: Original, seed: int) -> pl.DataFrame:
    drawn = np.random.default_rng(seed).standard_normal(original.scored.height)
    return original.scored.select("symbol", "session").with_columns(path_0=pl.Series(drawn))


def removed_names(
    original: Original,
    universe: UniverseConfig,
    strategy: StrategyConfig,
    pipeline: Pipeline,
    cuts: Sequence[date],
    *,
    seed: int,
) -> tuple[Evidence, ...]:
    """Every second name has no bar after a session, as if it had been delisted: nothing decided before may change.

    Whether later bars exist is knowledge too. A book that scores only rows with an outcome leaves a name before it
    dies; altered values do not show that, missing ones do.
    """
    features, scored, decisions = _Tally(), _Tally(), _Tally()
    scores = _seeded_scores(original, seed)
    traded = pipeline.decisions(scores, original.bars, strategy)
    for cut in cuts:
        known_by = original.close_of(cut)
        decided = pl.col("session") <= cut
        # Names with a bar in that session: one that is halted over it cannot be told from one that ends in it. And
        # with a score by then: a book of one name less adds up in another order, to another last bit.
        known = scores.filter(decided)["symbol"].unique()
        there = original.bars.filter(pl.col("session") == cut)["symbol"].unique().sort()
        gone = there.filter(there.is_in(known.implode())).gather_every(2)
        bars = original.bars.filter(decided | ~pl.col("symbol").is_in(gone.to_list()))
        new_features = pipeline.features(bars, strategy)
        features.add(original.features, new_features, original.inputs, decided)
        clean_features = spliced(original.features, new_features, decided)
        clean_labels = _spliced_labels(original.labels, pipeline.labels(bars, universe, strategy), known_by)
        table = pipeline.training_set(clean_features, clean_labels, strategy, original.known_by)
        new_scored = pipeline.scored(clean_features, bars, table, strategy)
        scored.add(original.scored, new_scored, ("t0",), decided)
        clean_scores = scores.filter(decided | ~pl.col("symbol").is_in(gone.to_list()))
        after = pipeline.decisions(clean_scores, bars, strategy)
        decisions.add(traded, after, TRADED, decided, keys=BY_PATH)
        decisions.add(traded, after, EARNED, pl.col("session") < cut, keys=BY_PATH)
    what = "later bars of some names removed"
    return (
        features.evidence("features", what, "feature values moved when names ended later"),
        scored.evidence("scored_rows", what, "rows were scored or not by whether their name goes on"),
        decisions.evidence("decisions", what, "trades and returns moved when names ended later"),
    )


def after_a_dividend(bars: pl.DataFrame) -> pl.DataFrame:
    """Bars as a later dividend would leave them: other prices and price factors, the volumes as they were."""
    scaled = rescaled(bars)
    factor = scaled["close"] / bars["close"]
    return scaled.with_columns(bars["volume"], price_factor=pl.col("price_factor") * factor)


def rescaled_history(
    original: Original, universe: UniverseConfig, strategy: StrategyConfig, pipeline: Pipeline, *, seed: int
) -> tuple[Evidence, ...]:
    """A later split or dividend rescales the whole adjusted history: nothing may read the level of prices."""
    bars = rescaled(original.bars)
    scores = _seeded_scores(original, seed)
    paid = difference(
        pipeline.decisions(scores, original.bars, strategy),
        pipeline.decisions(scores, after_a_dividend(original.bars), strategy),
        (*TRADED, *EARNED),
        BY_PATH,
    )
    own = [
        n for pack in selected_packs(strategy.feature_packs) if pack.recipe is not None for n in pack.names
    ]
    features = without_rounding(original.features, pipeline.features(bars, strategy), own)
    target = [TARGET] if strategy.label.plugin is not None else []
    labels = without_rounding(original.labels, pipeline.labels(bars, universe, strategy), target)
    outputs: tuple[tuple[Stage, pl.DataFrame, pl.DataFrame, Sequence[str]], ...] = (
        ("features", original.features, features, original.inputs),
        ("labels", original.labels, labels, label_values(original.labels)),
    )
    found: list[tuple[Stage, str, Difference]] = [
        (stage, "split", difference(before, after, columns)) for stage, before, after, columns in outputs
    ]
    return tuple(
        evidence_of(
            stage,
            f"history rescaled as by a later {action}",
            checked=d.checked,
            violations=d.violations,
            moved=None,
            offenders=d.columns,
            question="values moved with the scale of prices",
        )
        for stage, action, d in [*found, ("decisions", "dividend", paid)]
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


# -------------------------------------------------------------------------------------------------- positions


def positions(original: Original, strategy: StrategyConfig, pipeline: Pipeline, *, seed: int) -> Evidence:
    """Trade seeded scores, then the same scores with another future.

    A decision at the close of t is filled at the next open. So when scores after t and bars after that fill change,
    every trade up to the fill stays as it was, and so does every return that was earned before it.
    """
    rng = np.random.default_rng(seed)
    keys = original.training_set.frame.select("symbol", "session")
    scores = keys.with_columns(path_0=pl.Series(rng.standard_normal(keys.height)))
    sessions = original.bars["session"].unique().sort()
    decided_sessions = keys["session"].unique().sort()
    cut = decided_sessions[len(decided_sessions) // 2]
    fill = sessions.filter(sessions > cut)[0]
    other = scores.with_columns(
        path_0=pl.when(pl.col("session") > cut)
        .then(pl.Series(rng.standard_normal(keys.height)))
        .otherwise(pl.col("path_0"))
    )
    before = pipeline.decisions(scores, original.bars, strategy)
    after = pipeline.decisions(other, with_altered_future(original.bars, fill), strategy)
    traded = difference(
        before.filter(pl.col("session") <= fill), after.filter(pl.col("session") <= fill), TRADED, BY_PATH
    )
    earned = difference(
        before.filter(pl.col("session") <= cut), after.filter(pl.col("session") <= cut), EARNED, BY_PATH
    )
    moved = difference(
        before.filter(pl.col("session") > fill),
        after.filter(pl.col("session") > fill),
        (*TRADED, *EARNED),
        BY_PATH,
    )
    return evidence_of(
        "decisions",
        "later scores and bars altered",
        checked=traded.checked + earned.checked,
        violations=traded.violations + earned.violations,
        moved=moved.violations,
        offenders=(*traded.columns, *earned.columns),
        question="trades and returns moved when later scores and bars changed",
    )
