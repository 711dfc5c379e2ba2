"""Proof by experiment that a pack looks at nothing but its own past, and at that without a scale.

Four experiments on the bars themselves. Nothing is assumed about the pack, so a leak through another symbol,
a full-sample mean or a sort order shows as well as one through a shifted index.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy import bool_
from numpy.typing import NDArray

from quant_assets.common.errors import FeatureError
from quant_assets.features.computation import FIELDS, PRICES, Precision, compute, frame_of
from quant_assets.features.pack import Pack, find_pack

Experiment = Literal["altered_future", "removed_future", "rescaled", "shortened_past", "defined"]

# Every later price and volume is multiplied by its own draw from this range. One factor for a bar, or for a
# session, would leave ratios within the bar and ranks within the session as they were.
FUTURE_FACTORS = (0.5, 2.0)
FUTURE_SEED = 20
# Powers of two are exact in floating point: a scale-free feature keeps every bit.
SCALES = (2.0, 0.25, 4.0, 0.5)
# Of the feature's standard deviation; the unit in which warm-ups are declared.
HISTORY_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Violation:
    """The first value (by session, then symbol) that an experiment moved although it must not."""

    experiment: Experiment
    feature: str
    symbol: str
    session: date
    original: float | None
    moved: float | None
    count: int


@dataclass(frozen=True)
class CausalityReport:
    """What the experiments found.

    Parameters
    ----------
    pack, fingerprint : str
        The pack and the version of it that was proven.
    rows : int
        Bars.
    cut_sessions : tuple of date
        Sessions after which the future was altered and removed.
    dropped_sessions : int
        Sessions that were cut off at the beginning.
    violations : tuple of Violation
        One per experiment and feature.
    unproven : tuple of str
        Features of which no value could be compared in some experiment (the panel is shorter than the
        warm-up). No evidence is not a proof: the report does not pass.
    largest_history_error : float
        Largest shift by dropping the beginning, in standard deviations of the feature.
    """

    pack: str
    fingerprint: str
    rows: int
    cut_sessions: tuple[date, ...]
    dropped_sessions: int
    violations: tuple[Violation, ...]
    unproven: tuple[str, ...]
    largest_history_error: float

    @property
    def passed(self) -> bool:
        """True only when every feature was compared in every experiment and none moved."""
        return not self.violations and not self.unproven

    @property
    def leaking(self) -> tuple[str, ...]:
        """Features that the future moved."""
        return self._features("altered_future", "removed_future")

    @property
    def scale_dependent(self) -> tuple[str, ...]:
        """Features that moved when a symbol's prices or volumes were rescaled as a whole."""
        return self._features("rescaled")

    @property
    def history_dependent(self) -> tuple[str, ...]:
        """Features whose declared warm-up is too short."""
        return self._features("shortened_past")

    def _features(self, *experiments: Experiment) -> tuple[str, ...]:
        return tuple(dict.fromkeys(v.feature for v in self.violations if v.experiment in experiments))

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON and event metadata; dates as ISO text."""
        plain = asdict(self) | {"passed": self.passed}
        plain["cut_sessions"] = [day.isoformat() for day in self.cut_sessions]
        plain["violations"] = [asdict(v) | {"session": v.session.isoformat()} for v in self.violations]
        return plain | {"unproven": list(self.unproven)}


def prove_causal(
    bars: pl.DataFrame, pack: str | Pack = "technical_v1", cut_sessions: int | Sequence[date] = 4
) -> CausalityReport:
    """Show on these bars that the pack does not look ahead, has no scale and forgets the distant past.

    - ``altered_future``, ``removed_future``: bars after a cut are multiplied, each price by its own factor,
      then removed. Nothing at or before the cut may change by one bit.
    - ``rescaled``: the prices of each symbol are multiplied by its own power of two (another currency), then
      its volumes, then its prices are multiplied and its volumes divided by it (a later split). Nothing may
      change by one bit.

      A pack with a recipe may move by 1e-6 of the feature's standard deviation where bars are removed or rescaled:
      a logarithm, or a matrix product of another shape, rounds in another place.

    - ``shortened_past``: the first year is dropped (less when the panel is short). After the warm-up nothing
      may move by more than 1e-6 of the feature's standard deviation. A feature across symbols is compared in
      the sessions in which the same symbols take part with and without that year: a rank among others is
      another rank.
    - ``defined``: after the warm-up there is no NaN and no infinity.

    Parameters
    ----------
    bars : polars.DataFrame
        As for `quant_assets.features.compute`.
    pack : str or Pack
        The pack on trial.
    cut_sessions : int or sequence of date
        Where to cut; a number asks for that many, evenly spaced, and the last session but one.

    Raises
    ------
    FeatureError
        When the bars break the contract, or there is no session after a cut.
    """
    chosen = find_pack(pack)
    frame = frame_of(bars)
    sessions = frame["session"].unique().sort()
    cuts = _cuts(sessions, cut_sessions)
    trial = _Trial(chosen, frame)
    for cut in cuts:
        trial.future(cut)
    trial.scale()
    dropped = trial.past(sessions)
    return CausalityReport(
        pack=chosen.name,
        fingerprint=chosen.fingerprint,
        rows=frame.height,
        cut_sessions=tuple(cuts),
        dropped_sessions=dropped,
        violations=tuple(trial.violations.values()),
        unproven=tuple(name for name in chosen.names if name in trial.unproven()),
        largest_history_error=trial.largest_history_error,
    )


def _cuts(sessions: pl.Series, asked: int | Sequence[date]) -> list[date]:
    if isinstance(asked, int):
        last = len(sessions) - 2
        inner = [round(last * k / asked) for k in range(1, asked + 1)] if asked > 0 else []
        cuts = [sessions[k] for k in dict.fromkeys(inner) if 0 <= k <= last]
    else:
        cuts = sorted(set(asked))
    if not cuts or cuts[-1] >= sessions[-1] or cuts[0] < sessions[0]:
        raise FeatureError(
            "cut sessions",
            expected=f"one or more sessions from {sessions[0]} to before {sessions[-1]}",
            found=", ".join(str(cut) for cut in cuts) or f"{asked} cuts over {len(sessions)} sessions",
            action="cut where bars follow: without a future there is nothing to prove",
        )
    return cuts


class _Trial:
    """The experiments on one panel, and what they have found so far."""

    def __init__(self, pack: Pack, bars: pl.DataFrame) -> None:
        self.pack, self.bars = pack, bars
        self.violations: dict[tuple[Experiment, str], Violation] = {}
        self.compared: dict[tuple[Experiment, str], int] = {}
        self.largest_history_error = 0.0
        self.original = self._features(bars)

    def _features(self, bars: pl.DataFrame, precision: Precision = "float32") -> pl.DataFrame:
        return compute(bars, self.pack, precision=precision, mask=precision == "float64")

    def unproven(self) -> set[str]:
        """Features that some experiment had no value to compare for."""
        return {feature for (_, feature), count in self.compared.items() if count == 0}

    def future(self, cut: date) -> None:
        """Alter, then remove, what follows the cut."""
        later = pl.col("session") > cut
        rng = np.random.default_rng(FUTURE_SEED)
        factors = {name: pl.Series(rng.uniform(*FUTURE_FACTORS, self.bars.height)) for name in FIELDS}
        altered = self.bars.with_columns(
            pl.when(later).then(pl.col(name) * factor).otherwise(pl.col(name)).alias(name)
            for name, factor in factors.items()
        ).with_columns(volume=pl.col("volume") + later.cast(pl.Float64))  # a bar without volume gets some
        before = self.original.filter(~later)
        self._compare_bits("altered_future", before, self._features(altered).filter(~later))
        removed = self._features(self.bars.filter(~later))
        self._compare("removed_future", before, removed)

    def scale(self) -> None:
        """Multiply each symbol's prices, its volumes, and both against each other, as a whole."""
        rank = pl.col("symbol").rank("dense").cast(pl.Int64)
        scale = pl.lit(pl.Series(SCALES)).gather(rank % len(SCALES))
        prices, volume = pl.col(PRICES) * scale, pl.col("volume")
        for changed in ([prices], [volume * scale], [prices, volume / scale]):
            self._compare("rescaled", self.original, self._features(self.bars.with_columns(changed)))

    def past(self, sessions: pl.Series) -> int:
        """Drop the beginning, a year if the panel outlives its warm-up by two; return how many sessions."""
        dropped = min(252, max(1, (len(sessions) - self.pack.warm_up) // 2))
        kept = pl.col("session") >= sessions[min(dropped, len(sessions) - 1)]
        full = self._features(self.bars, "float64")
        for name in self.pack.names:
            values = full[name]
            self._record("defined", name, full, full, (values.is_null() | values.is_finite()).to_numpy())
        whole, shortened = full.filter(kept), self._features(self.bars.filter(kept), "float64")
        for name in self.pack.names:
            spread = (
                full[name].drop_nulls().to_numpy().std() if full[name].null_count() < full.height else 0.0
            )
            moved = (whole[name] - shortened[name]).abs() / (spread if spread > 0.0 else 1.0)
            both = self._comparable(whole, shortened, name)
            error = moved.filter(both).max()
            if isinstance(error, float):
                self.largest_history_error = max(self.largest_history_error, error)
            steady = (~both | (moved <= HISTORY_TOLERANCE).fill_null(False)).to_numpy()
            self._record("shortened_past", name, whole, shortened, steady, int(both.sum()))
        return dropped

    def _comparable(self, whole: pl.DataFrame, shortened: pl.DataFrame, name: str) -> pl.Series:
        """Rows past the warm-up, across symbols only in sessions in which the same ones take part."""
        both = shortened[name].is_not_null()
        if not self.pack.across:
            return both
        alike = pl.Series(both == whole[name].is_not_null())
        return (
            both
            & whole.select(alike.alias("alike"), "session")
            .select(pl.col("alike").all().over("session"))
            .to_series()
        )

    def _compare_bits(self, experiment: Experiment, one: pl.DataFrame, other: pl.DataFrame) -> None:
        for name in self.pack.names:
            same = one[name].to_numpy().view(np.uint32) == other[name].to_numpy().view(np.uint32)
            self._record(experiment, name, one, other, same)

    def _compare(self, experiment: Experiment, one: pl.DataFrame, other: pl.DataFrame) -> None:
        """By the bit of a kernel's values, by `HISTORY_TOLERANCE` of a recipe's."""
        if self.pack.recipe is None:
            self._compare_bits(experiment, one, other)
            return
        for name in self.pack.names:
            spread = self.original[name].cast(pl.Float64).std()
            scale = spread if isinstance(spread, float) and spread > 0.0 else 1.0
            a, b = (frame[name].cast(pl.Float64).to_numpy() for frame in (one, other))
            same = (np.isnan(a) & np.isnan(b)) | (np.abs(a - b) <= HISTORY_TOLERANCE * scale)
            self._record(experiment, name, one, other, same)

    def _record(
        self,
        experiment: Experiment,
        name: str,
        one: pl.DataFrame,
        other: pl.DataFrame,
        same: NDArray[bool_],
        compared: int | None = None,
    ) -> None:
        key = (experiment, name)
        count = other.height - other[name].null_count() if compared is None else compared
        self.compared[key] = self.compared.get(key, 0) + count
        if same.all() or key in self.violations:
            return
        keys = one.select("symbol", "session", original=name, moved=other[name])
        rows = keys.filter(pl.Series(~same)).sort("session", "symbol")
        symbol, session, original, moved = rows.row(0)
        self.violations[key] = Violation(experiment, name, symbol, session, original, moved, rows.height)
