"""Seeded synthetic markets: fat tails, one common factor, and an edge, a drift, lives or defects if asked for.

Model, per symbol and session (all logarithms):

* random walk: ``r = sd * (sqrt(m) f + sqrt(1 - m) e) - sd^2 / 2`` with a market factor ``f`` and an idiosyncratic
  ``e``, both Student-t standardised to unit variance, ``m`` the market share of variance;
* edge: ``log price = random walk + u`` with ``u`` a stationary AR(1) that forgets half of itself in
  ``half_life_sessions`` (Poterba and Summers 1988, eq. 1 to 3). Without an edge ``u`` is absent;
* the open lies at time 0.3 of a Brownian bridge over the session's move, so the overnight part carries 30 % of
  the random walk's variance; high and low are sampled extremes of a bridge from open to close;
* lives: a name lives exponentially long, and is halted once; another may take its symbol later, on another price
  level. A name's prices do not know that it will end: what it returns then is in its listing.

Each purpose draws from its own child stream, session by session. So a market with an edge is the *same* market
without it plus ``u``, and a later ``end`` leaves every earlier bar as it was.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.errors import SourceError
from quant_assets.common.listing_settings import Lives
from quant_assets.common.settings import Edge, PlantedDefect, PlantedDrift, SyntheticSource
from quant_assets.market.calendar import sessions

Array = NDArray[np.float64]

SESSIONS_PER_YEAR = 252.0
OVERNIGHT_SHARE = 0.3
PRICE_DECIMALS = 4  # far coarser than the last bit in which numpy versions differ
START_PRICE = 50.0
START_PRICE_LOG_SD = 0.5
MEDIAN_VOLUME = 3_000_000.0
VOLUME_LOG_SD = 0.35
VOLUME_PERSISTENCE = 0.9
VOLUME_PER_ABSOLUTE_RETURN = 0.25  # log volume per standard deviation of the session's move

# Children of the seed, in this order. Append new purposes at the end: the order is part of every market.
_STREAMS = ("levels", "market", "idiosyncratic", "overnight", "highs", "lows", "volume", "transient", "lives")


@dataclass(frozen=True)
class _Prices:
    open: Array
    high: Array
    low: Array
    close: Array


def generate(source: SyntheticSource, calendar: str, start: date, end: date) -> pl.DataFrame:
    """Generate the feed of a synthetic market, before any validation (planted defects are in it).

    Parameters
    ----------
    source : SyntheticSource
        Seed, size, volatility; optionally edge, drift, defects.
    calendar : str
        Its sessions get a bar each.
    start, end : datetime.date
        First and last day, both included.

    Returns
    -------
    polars.DataFrame
        Columns of `quant_assets.market.parsing.RAW_SCHEMA`; symbols ``S000``, ``S001``, ... ``adj_close``
        equals ``close``: these companies neither split nor pay.

    Raises
    ------
    CalendarError
        When the calendar is unknown.
    SourceError
        When a planted defect lies outside the feed.
    """
    days = sessions(calendar, start, end)
    shape = (days.len(), source.n_symbols)
    children = np.random.SeedSequence(source.seed).spawn(len(_STREAMS))
    streams = {
        name: np.random.Generator(np.random.PCG64(s)) for name, s in zip(_STREAMS, children, strict=True)
    }

    lived = None if source.lives is None else _lives(source.lives, source.n_symbols, streams["lives"])
    scale, volume_scale = _regime(days, source.drift)
    innovations = _innovations(source, shape, streams)
    daily_sd = source.annual_volatility / math.sqrt(SESSIONS_PER_YEAR)
    sd = daily_sd * scale
    start_prices = START_PRICE * np.exp(START_PRICE_LOG_SD * streams["levels"].standard_normal(shape[1]))
    volume_levels = np.exp(START_PRICE_LOG_SD * streams["levels"].standard_normal(shape[1]))

    moves = sd * innovations - sd**2 / 2
    if source.edge is not None:
        moves = moves + _transient_moves(source.edge, shape, scale, streams["transient"])
    start_logs = np.log(start_prices)
    prices = _intraday(
        start_logs if lived is None else start_logs + lived.levels(shape[0]), moves, sd, streams
    )
    volume = _volume(volume_levels * volume_scale, innovations, streams["volume"])

    names = _names(source)
    frame = pl.DataFrame(
        {
            "symbol": np.repeat(np.array(names), shape[0]),
            "session": pl.concat([days] * source.n_symbols),
            "open": prices.open.T.ravel(),
            "high": prices.high.T.ravel(),
            "low": prices.low.T.ravel(),
            "close": prices.close.T.ravel(),
            "volume": volume.T.ravel(),
        }
    ).with_columns(adj_close=pl.col("close"))
    if lived is not None:
        frame = frame.with_columns(trading=lived.trading(shape[0]).T.ravel())
    feed = plant_defects(frame, source.defects, symbols=names, n_sessions=shape[0])
    return feed if lived is None else feed.filter("trading").drop("trading")


def listings(source: SyntheticSource, calendar: str, start: date, end: date) -> pl.DataFrame:
    """What each symbol of a synthetic market with lives was when, and how it ended.

    Every instrument's start is known as its first day begins, its end once its last day is over.

    Parameters
    ----------
    source : SyntheticSource
        With ``lives``.
    calendar, start, end
        As for `generate`.

    Returns
    -------
    polars.DataFrame
        The columns of `quant_assets.market.listings.LISTINGS`.

    Raises
    ------
    CalendarError
        When the calendar is unknown.
    SourceError
        When the source has no lives.
    """
    if source.lives is None:
        raise SourceError(
            f"synthetic seed {source.seed}",
            expected="`lives:`",
            found="names that never end",
            action="set `lives:` in the universe YAML",
        )
    days = sessions(calendar, start, end).to_list()
    child = np.random.SeedSequence(source.seed).spawn(len(_STREAMS))[_STREAMS.index("lives")]
    lived = _lives(source.lives, source.n_symbols, np.random.Generator(np.random.PCG64(child)))
    midnight = pl.Datetime("us", "UTC")
    rows: list[dict[str, object]] = []
    for slot, name in enumerate(_names(source)):
        for number, (first, last) in enumerate(zip(lived.first[slot], lived.last[slot], strict=True)):
            if first >= len(days):
                break
            begun = {
                "instrument_id": f"{source.seed}-{name}-{number}",
                "symbol": name,
                "exchange": calendar,
                "valid_from": days[int(first)],
                "valid_to": None,
                "end_kind": None,
                "delisting_return": None,
                "known_at": days[int(first)],
                "source": f"synthetic seed {source.seed}",
            }
            rows.append(begun)
            if last < len(days):
                kind, final = _end(lived.kind[slot, number])
                over = days[int(last)]
                told = {"end_kind": kind, "delisting_return": final, "known_at": over + timedelta(days=1)}
                rows.append({**begun, "valid_to": over, **told})
    schema = dict.fromkeys(("instrument_id", "symbol", "exchange", "end_kind", "source"), pl.String)
    dates = dict.fromkeys(("valid_from", "valid_to", "known_at"), pl.Date)
    frame = pl.DataFrame(rows, schema_overrides={**schema, **dates, "delisting_return": pl.Float64})
    return frame.with_columns(pl.col("known_at").cast(midnight))


# ------------------------------------------------------------------------------------------- lives of the names


MOST_LIVES = 8  # instruments that one symbol has had at most
GAP = 20  # sessions before another takes a symbol
NEW_LEVEL_LOG_SD = 0.5
# How names end, by share: bought for cash at the last close, bankrupt and worth nothing, or nobody says.
CASH, BANKRUPT = 0.5, 0.7
NEVER = 2.0**40


@dataclass(frozen=True)
class _Lived:
    """Instruments of each symbol, shape (symbols, MOST_LIVES); sessions count from the market's first."""

    first: Array
    last: Array  # both included
    kind: Array
    level: Array  # added to logarithms of prices
    halts: Array  # shape (symbols,): first session of the halt
    halt_sessions: int

    def levels(self, n_sessions: int) -> Array:
        """What is added to each session's logarithms of prices, shape (sessions, symbols)."""
        at = np.arange(n_sessions)[:, None]
        total = np.zeros((n_sessions, len(self.halts)))
        for number in range(1, MOST_LIVES):
            total += np.where(at >= self.first[:, number], self.level[:, number], 0.0)
        return total

    def trading(self, n_sessions: int) -> NDArray[np.bool_]:
        """Whether there is a bar, shape (sessions, symbols)."""
        at = np.arange(n_sessions)[:, None]
        lives = np.zeros((n_sessions, len(self.halts)), dtype=bool)
        for number in range(MOST_LIVES):
            lives |= (at >= self.first[:, number]) & (at <= self.last[:, number])
        halted = (at >= self.halts) & (at < self.halts + self.halt_sessions)
        return np.asarray(lives & ~halted)


def _lives(lives: Lives, n_symbols: int, stream: np.random.Generator) -> _Lived:
    """Draw every life that a symbol could have: how many sessions the market has changes none."""
    shape = (n_symbols, MOST_LIVES)
    lengths = np.maximum(1.0, np.ceil(_waits(lives.delisted_per_year, stream.random(shape))))
    kind, again = stream.random(shape), stream.random(shape)
    level = NEW_LEVEL_LOG_SD * stream.standard_normal(shape)
    halts = np.ceil(_waits(lives.halted_per_year, stream.random(n_symbols)))
    first, last = np.full(shape, NEVER), np.full(shape, NEVER)
    first[:, 0] = 0.0
    for number in range(MOST_LIVES):
        if number:
            follows = again[:, number] < lives.reused
            first[:, number] = np.where(follows, last[:, number - 1] + 1 + GAP, NEVER)
            # Once nobody takes the symbol, nobody does later.
            first[first[:, number - 1] >= NEVER, number] = NEVER
        last[:, number] = np.minimum(first[:, number] + lengths[:, number] - 1, NEVER)
    return _Lived(first, last, kind, level, np.maximum(halts, 1.0), lives.halt_sessions)


def _waits(per_year: float, uniform: Array) -> Array:
    """Exponential waiting times in sessions of what happens within a year with a probability."""
    if per_year == 0:
        return np.full(uniform.shape, NEVER)
    waits: Array = np.log1p(-uniform) / math.log1p(-per_year) * SESSIONS_PER_YEAR
    return waits


def _end(drawn: float) -> tuple[str, float | None]:
    """The kind of an end, and what it returns on the last close."""
    if drawn < CASH:
        return "merger_cash", 0.0
    return ("bankruptcy", -1.0) if drawn < BANKRUPT else ("unknown", None)


def _names(source: SyntheticSource) -> list[str]:
    width = max(3, len(str(source.n_symbols - 1)))
    return [f"S{number:0{width}d}" for number in range(source.n_symbols)]


def _regime(days: pl.Series, drift: PlantedDrift | None) -> tuple[Array, Array]:
    """Multipliers of volatility and volume per session, shape (T, 1)."""
    ones = np.ones((days.len(), 1))
    if drift is None:
        return ones, ones
    drifted = (days >= drift.start).to_numpy()[:, None]
    return np.where(drifted, drift.volatility_factor, ones), np.where(drifted, drift.volume_factor, ones)


def _innovations(
    source: SyntheticSource, shape: tuple[int, int], streams: dict[str, np.random.Generator]
) -> Array:
    freedom = source.tail_degrees_of_freedom
    unit = math.sqrt((freedom - 2) / freedom)
    market = unit * streams["market"].standard_t(freedom, size=(shape[0], 1))
    own = unit * streams["idiosyncratic"].standard_t(freedom, size=shape)
    return math.sqrt(source.market_share) * market + math.sqrt(1 - source.market_share) * own


def _transient_moves(edge: Edge, shape: tuple[int, int], scale: Array, stream: np.random.Generator) -> Array:
    """Session-to-session changes of the mean-reverting component, shape (T, N)."""
    persistence = 2.0 ** (-1.0 / edge.half_life_sessions)
    shock_sd = edge.transient_sd * math.sqrt(1 - persistence**2)
    level = edge.transient_sd * stream.standard_normal(shape[1])
    shocks = shock_sd * scale * stream.standard_normal(shape)
    moves = np.empty(shape)
    for session, shock in enumerate(shocks):
        moves[session] = (persistence - 1) * level + shock
        level = level + moves[session]
    return moves


def _intraday(start_logs: Array, moves: Array, sd: Array, streams: dict[str, np.random.Generator]) -> _Prices:
    shape = moves.shape
    closes = start_logs + np.cumsum(moves, axis=0)
    bridge = (
        sd * math.sqrt(OVERNIGHT_SHARE * (1 - OVERNIGHT_SHARE)) * streams["overnight"].standard_normal(shape)
    )
    opens = closes - (1 - OVERNIGHT_SHARE) * moves + bridge
    # Maximum of a Brownian bridge between two points, by inversion of P(max > x) (Karatzas and Shreve 1991, 4.3.40).
    variance = (1 - OVERNIGHT_SHARE) * sd**2
    spread = (closes - opens) ** 2
    up = np.sqrt(spread - 2 * variance * np.log1p(-streams["highs"].random(shape)))
    down = np.sqrt(spread - 2 * variance * np.log1p(-streams["lows"].random(shape)))
    return _Prices(
        open=_quoted(opens),
        high=_quoted((opens + closes + up) / 2),
        low=_quoted((opens + closes - down) / 2),
        close=_quoted(closes),
    )


def _quoted(logs: Array) -> Array:
    """Prices on a grid of four decimals, never below its first step. Rounding keeps the order of OHLC."""
    tick = 10.0**-PRICE_DECIMALS
    prices: Array = np.maximum(np.round(np.exp(logs), PRICE_DECIMALS), tick)
    return prices


def _volume(levels: Array, innovations: Array, stream: np.random.Generator) -> Array:
    """Whole shares: log-normal with memory, larger on sessions with a large move."""
    shape = innovations.shape
    deviation = VOLUME_LOG_SD * stream.standard_normal(shape[1])
    shocks = VOLUME_LOG_SD * math.sqrt(1 - VOLUME_PERSISTENCE**2) * stream.standard_normal(shape)
    logs = np.empty(shape)
    for session, shock in enumerate(shocks):
        deviation = VOLUME_PERSISTENCE * deviation + shock
        logs[session] = deviation
    volume = MEDIAN_VOLUME * levels * np.exp(logs + VOLUME_PER_ABSOLUTE_RETURN * np.abs(innovations))
    shares: Array = np.maximum(np.round(volume), 1.0)
    return shares


# ------------------------------------------------------------------------------ defects planted into the feed


STALE_SESSIONS_PLANTED = 10
JUMP_PLANTED = 0.55  # news: no split has this ratio
SPLIT_PLANTED = 2.0  # new shares per old
SPIKE_PLANTED = 1.6
SLIP_PLANTED = 10.0

_OHLC = ("open", "high", "low", "close")
_PRICES = (*_OHLC, "adj_close")


def plant_defects(
    feed: pl.DataFrame, defects: Sequence[PlantedDefect], *, symbols: Sequence[str], n_sessions: int
) -> pl.DataFrame:
    """Return the feed with each defect in it.

    Parameters
    ----------
    feed : polars.DataFrame
        Sorted by symbol and session, every symbol with the same ``n_sessions`` sessions.
    defects : sequence of PlantedDefect
        ``symbol`` counts from 0, ``session`` from 0 as well (its lowest value is 1, so a bar comes before).

    Raises
    ------
    SourceError
        When a defect names a symbol or session that the feed has not.
    """
    position = pl.int_range(pl.len()).over("symbol")
    feed = feed.with_columns(position.alias("position"))
    for defect in defects:
        if defect.symbol >= len(symbols) or defect.session >= n_sessions:
            raise SourceError(
                f"planted defect {defect.kind} at symbol {defect.symbol}, session {defect.session}",
                expected=f"symbol below {len(symbols)}, session below {n_sessions}",
                found="one outside the feed",
                action="move the defect in the universe YAML",
            )
        feed = _plant(feed, defect, symbols[defect.symbol])
    return feed.drop("position")


def _plant(feed: pl.DataFrame, defect: PlantedDefect, symbol: str) -> pl.DataFrame:
    own = pl.col("symbol") == symbol
    here = own & (pl.col("position") == defect.session)
    later = own & (pl.col("position") >= defect.session)

    def where(rows: pl.Expr, **values: pl.Expr) -> pl.DataFrame:
        return feed.with_columns(
            pl.when(rows).then(value).otherwise(pl.col(name)).alias(name) for name, value in values.items()
        )

    match defect.kind:
        case "null_close":
            return where(here, close=pl.lit(None, dtype=pl.Float64))
        case "negative_price":
            return where(here, close=-pl.col("close"))
        case "high_below_low":
            return where(here, high=pl.col("low") * 0.99, low=pl.col("high"))
        case "duplicate_row":
            return pl.concat([feed, feed.filter(here)]).sort("symbol", "position", maintain_order=True)
        case "missing_session":
            return feed.filter(~here)
        case "stale_price":
            frozen = feed.filter(own & (pl.col("position") == defect.session - 1))
            run = later & (pl.col("position") < defect.session + STALE_SESSIONS_PLANTED - 1)
            return where(run, **{name: pl.lit(frozen[name].item()) for name in _PRICES})
        case "unexplained_jump":
            return where(later, **{name: pl.col(name) * JUMP_PLANTED for name in _PRICES})
        case "split_never_rebased":
            halved = {name: pl.col(name) / SPLIT_PLANTED for name in _PRICES}
            return where(later, **halved, volume=pl.col("volume") * SPLIT_PLANTED)
        case "price_spike":
            return where(here, **{name: pl.col(name) * SPIKE_PLANTED for name in _PRICES})
        case "decimal_slip":
            return where(here, **{name: pl.col(name) * SLIP_PLANTED for name in _PRICES})
        case "zero_volume":
            return where(here, volume=pl.lit(0.0))
