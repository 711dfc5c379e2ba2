"""Steps of the ratio of adjusted to raw close: where it moves further than rounding, and every sign beside a step.

Vendors round both closes, so the ratio is noisy. How far it may wander follows from the rounding itself: half a unit
of the last decimal in which the closes around a session are written.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

# A step of the ratio below a tenth of a basis point is no action. On 482,800 bars of 100 stocks the noise ends
# at 1.4e-6 and the smallest action is 3.6e-5.
SMALLEST_ACTION = 1e-5
# Vendors chain factors in 32-bit floats; eight roundings of half a unit in the last place each.
CHAINED_FLOAT32_ERROR = 8 * 2.0**-24
FLOAT32_ERROR = 2.0**-24
# Sessions on each side of a step whose median gives the level: fewer than a quarter of a year, so that a
# dividend too small to be seen cannot sit on both sides.
LEVEL_SESSIONS = 21
MAX_DECIMALS = 8
# Bars, up to or from a bar on, whose decimals say in which decimals it is written: ten prices in cents look like
# tenths all along once in 10^10.
DECIMALS_WINDOW = 10
EXACT_QUOTE_WANDER = 0.1
# Below this growth a step is a dividend whatever else is seen: 2 % of volume is less than any use of volume notices.
SMALLEST_BONUS = 1.02


@dataclass(frozen=True)
class Step:
    """One step of the ratio and what is seen beside it.

    Attributes
    ----------
    symbol, session
    growth : float
        Of adj_close / close, between the medians of up to 21 sessions on each side.
    noise : float
        Relative; how far the rounding of two single sessions can move it.
    fine_growth, fine_noise : float
        The same from all sessions on both sides: what every one of their roundings allows.
    previous_close, close : float
        Raw.
    in_cents : bool
        The previous close is an exact quote of at most two decimals.
    usual_move : float
        Median absolute logarithmic move of the raw close in the 21 sessions before; 0 when unknown.
    volume_change : float
        Median volume of the 21 sessions from the step on over that of the 21 before; not a number when unknown.
    activity : float
        The larger of the day's volume and range over their medians before; 0 when unknown.
    """

    symbol: str
    session: date
    growth: float
    noise: float
    fine_growth: float
    fine_noise: float
    previous_close: float
    close: float
    in_cents: bool = False
    usual_move: float = 0.0
    volume_change: float = math.nan
    activity: float = 0.0

    @property
    def way_gone(self) -> float:
        """How much of the way (in logarithms) that the step says the raw close went; 1 when all of it."""
        return -math.log(self.close / self.previous_close) / math.log(self.growth)

    @property
    def price_followed(self) -> bool:
        """Whether the raw close went at least half the way."""
        return self.way_gone >= 0.5


def steps_of(raw: pl.DataFrame) -> Iterator[Step]:
    """Steps of the ratio beyond its noise, by symbol and session; the signs only where size leaves them open."""
    priced = raw.filter(pl.col("adj_close").is_not_null()).sort("symbol", "session")
    if priced.is_empty():
        return
    levelled = _levelled(priced)
    levels = (
        levelled.with_row_index("row")
        .group_by("symbol", "level", maintain_order=True)
        .agg(
            pl.col("session", "noise", "previous_close", "close", "row").first(),
            pl.len().alias("sessions"),
            pl.col("ratio").head(LEVEL_SESSIONS).median().alias("head"),
            pl.col("ratio").tail(LEVEL_SESSIONS).median().alias("tail"),
        )
        .with_columns(
            growth=pl.col("head") / pl.col("tail").shift().over("symbol"),
            before=pl.col("sessions").shift().over("symbol"),
            first=pl.col("row").first().over("symbol"),
            last=(pl.col("row") + pl.col("sessions")).last().over("symbol"),
        )
        .filter(pl.col("level") > 0)
    )
    seen = _Seen(levelled)
    columns = ("symbol", "session", "growth", "noise", "previous_close", "close", "row", "before", "sessions")
    for symbol, session, growth, noise, previous, close, row, before, after, first, last in levels.select(
        *columns, "first", "last"
    ).iter_rows():
        if 1 <= growth < SMALLEST_BONUS:
            yield Step(symbol, session, growth, noise, growth, noise, previous, close)
        else:
            fine_growth, fine_noise = seen.fine(row, before, after, growth, noise)
            yield Step(
                symbol, session, growth, noise, fine_growth, fine_noise, previous, close,
                seen.in_cents(row - 1), *seen.signs(row, first, last),
            )  # fmt: skip


def _levelled(priced: pl.DataFrame) -> pl.DataFrame:
    """Bars with their ratio, what rounding can have made of it, and the number of steps up to them."""
    halves = priced.with_columns(ratio=pl.col("adj_close") / pl.col("close")).with_columns(
        growth=(pl.col("ratio") / pl.col("ratio").shift()).over("symbol"),
        # After the last action both closes are the same number, which does not say how others are written.
        half_adjusted=_half_unit(pl.col("adj_close"), pl.col("adj_close") != pl.col("close")),
        half_written=_half_unit(pl.col("close"), pl.lit(value=True)),
    )
    # A raw close is an exact quote, however few its decimals; a close that the vendor has re-based and rounded
    # is not. Rounding would move the ratio by 0.6 half units (median): far less than that means exact quotes.
    # Where both closes are the same number nothing can be seen: that is every bar after the last action.
    apart = (pl.col("adj_close") != pl.col("close")) & (pl.col("half_written") > 0)
    wander = ((pl.col("growth") - 1).abs() * pl.col("close") / pl.col("half_written")).filter(apart).median()
    rounded = (wander > EXACT_QUOTE_WANDER).over("symbol", "half_written")
    half_close = pl.when(rounded).then(pl.col("half_written")).otherwise(0.0)
    uncertainty = (
        pl.col("half_adjusted") / pl.col("adj_close")
        + pl.col("half_close") / pl.col("close")
        + CHAINED_FLOAT32_ERROR
    )
    return (
        halves.with_columns(half_close=half_close)
        .with_columns(uncertainty=uncertainty)
        .with_columns(
            noise=(pl.col("uncertainty") + pl.col("uncertainty").shift()).over("symbol"),
            previous_close=pl.col("close").shift().over("symbol"),
        )
        .with_columns(
            stepped=(pl.col("growth") - 1).abs() > pl.max_horizontal("noise", pl.lit(SMALLEST_ACTION))
        )
        .with_columns(level=pl.col("stepped").fill_null(value=False).cum_sum().over("symbol"))
    )


def _half_unit(price: pl.Expr, telling: pl.Expr) -> pl.Expr:
    """Half of the last decimal in which telling prices are written around a bar; 0 beyond eight decimals."""
    decimals = pl.lit(MAX_DECIMALS + 1)
    for places in range(MAX_DECIMALS, -1, -1):
        # 105.660004 is 105.66 in 32 bits, 32.990002 is 32.99 in 32 bits and then in six decimals.
        written_so = (price - price.round(places)).abs() <= 2 * FLOAT32_ERROR * price
        decimals = pl.when(written_so).then(pl.lit(places)).otherwise(decimals)
    told = pl.when(telling).then(decimals)
    # Where the writing changes, one of the two sides is all of the bar's own kind.
    past = told.rolling_max(DECIMALS_WINDOW)
    coming = told.reverse().rolling_max(DECIMALS_WINDOW).reverse()
    near = pl.min_horizontal(past, coming).forward_fill().backward_fill()
    around = pl.coalesce(near, told.max(), pl.lit(MAX_DECIMALS + 1)).over("symbol")
    return pl.when(around > MAX_DECIMALS).then(0.0).otherwise(0.5 * pl.lit(10.0).pow(-around))


class _Seen:
    """The bars as arrays: what is seen around one row."""

    def __init__(self, bars: pl.DataFrame) -> None:
        names = ("adj_close", "close", "high", "low", "half_adjusted", "half_close", "half_written")
        self._of = {name: bars[name].to_numpy() for name in names}
        volume = (
            bars["volume"].cast(pl.Float64) if "volume" in bars.columns else pl.Series([None] * bars.height)
        )
        self._volume = volume.cast(pl.Float64).fill_null(math.nan).to_numpy()

    def in_cents(self, row: int) -> bool:
        """Whether a close is an exact quote in cents or coarser."""
        return bool(self._of["half_close"][row] == 0.0 and self._of["half_written"][row] >= 0.005)

    def fine(self, row: int, before: int, after: int, growth: float, noise: float) -> tuple[float, float]:
        """Growth and noise that all roundings on both sides allow; as given where no ratio suits all of them."""
        (low, high), (low_next, high_next) = (
            self._allowed(row - min(before, LEVEL_SESSIONS), row),
            self._allowed(row, row + min(after, LEVEL_SESSIONS)),
        )
        if low > high or low_next > high_next:
            return growth, noise
        least, most = low_next / high, high_next / low
        return (least + most) / 2, (most - least) / (most + least) + CHAINED_FLOAT32_ERROR

    def _allowed(self, first: int, last: int) -> tuple[float, float]:
        adjusted, close = self._of["adj_close"][first:last], self._of["close"][first:last]
        up, aside = self._of["half_adjusted"][first:last], self._of["half_close"][first:last]
        least = ((adjusted - up) / (close + aside)).max() * (1 - FLOAT32_ERROR)
        most = ((adjusted + up) / (close - aside)).min() * (1 + FLOAT32_ERROR)
        return float(least), float(most)

    def signs(self, row: int, first: int, last: int) -> tuple[float, float, float]:
        """Usual move, change of volume and activity of the day."""
        before = slice(max(first, row - LEVEL_SESSIONS), row)
        after = slice(row, min(last, row + LEVEL_SESSIONS))
        closes = self._of["close"][before]
        usual = float(np.median(np.abs(np.diff(np.log(closes))))) if len(closes) > 1 else 0.0
        volume, width = self._volume, np.log(self._of["high"][before] / self._of["low"][before])
        usual_volume, later = _median(volume[before]), _median(volume[after])
        change = later / usual_volume if usual_volume > 0 and later > 0 else math.nan
        width_now = math.log(self._of["high"][row] / self._of["low"][row])
        ratios = [(volume[row], usual_volume), (width_now, _median(width))]
        activity = [now / usually for now, usually in ratios if usually > 0 and math.isfinite(now)]
        return usual, change, max(activity, default=0.0)


def _median(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else math.nan
