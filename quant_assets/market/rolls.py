"""Futures rolls: which contract of a root is held when, and one continuous series of each root.

A roll is decided at a close and in force from the next session on. It acts like a corporate action: prices before
it are multiplied by ``close_new / close_old`` of the last session in which both were known, so that the series has
the returns of one contract at a time and no gap between two.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.errors import BarContractError, ConfigurationError, closest
from quant_assets.common.roll_settings import CONTRACT, RollsConfig
from quant_assets.market.calendar import sessions

ROLLS_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "root": pl.String,
    "session": pl.Date,
    "decided_on": pl.Date,
    "from_contract": pl.String,
    "to_contract": pl.String,
    "priced_on": pl.Date,
    "close_from": pl.Float64,
    "close_to": pl.Float64,
    "ratio": pl.Float64,
    "reason": pl.String,
}
ROLL = "roll"  # the kind of corporate action
# A contract that is silent for one session is a hole in the feed; for three in a row it is taken to have stopped.
STOPPED_SESSIONS = 3
REGULAR = ("volume", "days_before_expiry", "last_trade")
MOST_CUTS = 12
LONGEST_AFTER = timedelta(
    days=366
)  # no contract trades a year beyond its delivery; symbols come back after ten
MONTHS = "FGHJKMNQUVXZ"

RollRule = Callable[[pl.DataFrame, RollsConfig, str], pl.DataFrame]


def contracts_of(raw: pl.DataFrame, rolls: RollsConfig) -> pl.DataFrame:
    """Root, delivery order and last trade (null when unknown) of every contract that has bars.

    Raises
    ------
    ConfigurationError
        When a symbol is neither listed nor a usual name of a contract, or was given to a second one: ESH4 of 2014 is
        another contract than that of 2024.
    """
    listed = {contract.symbol: contract for contract in rolls.contracts}
    rows: list[tuple[object, ...]] = []
    spans = raw.group_by("symbol").agg(first=pl.col("session").min(), last=pl.col("session").max())
    for symbol, first, last in spans.sort("symbol").iter_rows():
        if symbol in listed:
            contract = listed[symbol]
            rows.append((symbol, contract.root, contract.last_trade, contract.last_trade))
            continue
        found = CONTRACT.match(symbol)
        if listed or found is None:
            raise ConfigurationError(
                f"contract {symbol!r}",
                expected="a symbol of `rolls.contracts:`"
                if listed
                else "root, month code and year, as in ESH24",
                found="another symbol",
                action=closest(symbol, list(listed))
                or "list it under `rolls.contracts:`, or leave it out of `symbols:`",
            )
        delivery = date(_year(found["year"], first), MONTHS.index(found["month"]) + 1, 1)
        if last > delivery + LONGEST_AFTER:
            raise ConfigurationError(
                f"contract {symbol!r}",
                expected=f"bars until its delivery, {delivery:%B %Y}, or a little later",
                found=f"bars from {first} to {last}: two contracts under one symbol",
                action="write the year of each with two or four digits, as in ESH24, in the source",
            )
        rows.append((symbol, found["root"], delivery, None))
    schema = {"symbol": pl.String, "root": pl.String, "delivery": pl.Date, "last_trade": pl.Date}
    return pl.DataFrame(rows, schema=schema, orient="row").sort("root", "delivery", "symbol")


def _year(digits: str, first: date) -> int:
    """The year that a contract's name means: the first with these digits not before its first bar's."""
    cycle = 10 ** len(digits)
    return first.year + (int(digits) - first.year) % cycle if cycle < 10_000 else int(digits)


def derive_rolls(raw: pl.DataFrame, rolls: RollsConfig, calendar: str) -> pl.DataFrame:
    """Every roll of every root, each from bars up to the close on which it was decided.

    Parameters
    ----------
    raw : polars.DataFrame
        Validated bars of the contracts: ``symbol, session, close, volume`` and others.
    rolls : RollsConfig
    calendar : str
        Whose next session a roll is in force from.

    Returns
    -------
    polars.DataFrame
        Columns of `ROLLS_SCHEMA`, sorted by root and session: ``session`` from which the new contract is held,
        ``decided_on`` the session at whose close that was known, ``ratio`` = ``close_to / close_from`` of
        ``priced_on``, the last session by then in which both had a bar, and the ``reason``: a rule of the
        configuration, ``last_trade`` (it was reached first), ``late`` (the rule's day had passed without a next
        contract) or ``stopped`` (the held one had no bar in three sessions). A root starts with the nearest delivery
        that has a bar in its first session.

    Raises
    ------
    ConfigurationError
        When a symbol is no contract.
    """
    listed = contracts_of(raw, rolls)
    if raw.is_empty():
        return pl.DataFrame(schema=ROLLS_SCHEMA)
    first, last = raw.select(a=pl.col("session").min(), b=pl.col("session").max()).row(0)
    ends = [day for day in listed["last_trade"] if day is not None]
    until = max([last, *ends]) + timedelta(days=31)
    days = sessions(calendar, first, until).to_numpy().astype("datetime64[D]")
    rows: list[tuple[object, ...]] = []
    for (root,), own in listed.group_by("root", maintain_order=True):
        rows += _rolls_of(str(root), own, raw, rolls, days)
    return pl.DataFrame(rows, schema=ROLLS_SCHEMA, orient="row").sort("root", "session")


def _rolls_of(
    root: str, own: pl.DataFrame, raw: pl.DataFrame, rolls: RollsConfig, days: NDArray[np.datetime64]
) -> list[tuple[object, ...]]:
    names = own["symbol"].to_list()
    bars = raw.filter(pl.col("symbol").is_in(names)).sort("session")
    grid = np.unique(bars["session"].to_numpy().astype("datetime64[D]"))
    close, volume = np.full((2, len(grid), len(names)), np.nan)
    at = np.searchsorted(grid, bars["session"].to_numpy().astype("datetime64[D]"))
    place = {name: number for number, name in enumerate(names)}
    of = np.array([place[name] for name in bars["symbol"]], dtype=np.int64)
    close[at, of] = bars["close"].to_numpy()
    volume[at, of] = bars["volume"].cast(pl.Float64).to_numpy()
    there = ~np.isnan(close)
    volume = np.where(there, np.nan_to_num(volume), -1.0)
    last_trade = own["last_trade"].to_numpy().astype("datetime64[D]")
    rows: list[tuple[object, ...]] = []
    held, start = int(np.argmax(there[0])), 0
    while held + 1 < len(names):
        decided = next(
            (
                (t, to, why)
                for t in range(start, len(grid))
                if (why := _due(t, held, grid, there, volume, last_trade[held], rolls, days))
                and (to := _next(t, held, there, volume, rolls, why)) is not None
            ),
            None,
        )
        if decided is None:
            break
        t, to, why = decided
        priced = int(np.flatnonzero(there[: t + 1, held] & there[: t + 1, to])[-1])
        old, new = float(close[priced, held]), float(close[priced, to])
        in_force = days[np.searchsorted(days, grid[t], side="right")]
        day = [moment.item() for moment in (in_force, grid[t], grid[priced])]
        rows.append((root, day[0], day[1], names[held], names[to], day[2], old, new, new / old, why))
        held, start = to, t + 1
    return rows


def _due(
    t: int,
    held: int,
    grid: NDArray[np.datetime64],
    there: NDArray[np.bool_],
    volume: NDArray[np.float64],
    last_trade: np.datetime64,
    rolls: RollsConfig,
    days: NDArray[np.datetime64],
) -> str:
    """Why the held contract is left after the close of t; empty when it is not."""
    if not np.isnat(last_trade):
        following = np.searchsorted(days, grid[t], side="right")
        ends = np.searchsorted(days, last_trade, side="right") - 1  # its session, or the one before
        if rolls.rule == "days_before_expiry" and following >= ends - rolls.days:
            return "days_before_expiry" if following == ends - rolls.days else "late"
        if following > ends:
            return "last_trade" if following == ends + 1 else "late"
    if rolls.rule == "volume" and there[t, held] and (volume[t, held + 1 :] > volume[t, held]).any():
        return "volume"
    if t + 1 >= STOPPED_SESSIONS and not there[t + 1 - STOPPED_SESSIONS : t + 1, held].any():
        return "stopped"
    return ""


def _next(
    t: int, held: int, there: NDArray[np.bool_], volume: NDArray[np.float64], rolls: RollsConfig, why: str
) -> int | None:
    """The contract to hold: by volume the most traded later one, else the nearest; one with a price in common."""
    common = (there[: t + 1, held, None] & there[: t + 1, held + 1 :]).any(axis=0)
    fit = there[t, held + 1 :] & common
    if why == "volume":
        fit &= volume[t, held + 1 :] > volume[t, held]
    open_to = np.flatnonzero(fit) + held + 1
    if not len(open_to):
        return None
    return int(open_to[np.argmax(volume[t, open_to])] if rolls.rule == "volume" else open_to[0])


def as_actions(rolls: pl.DataFrame) -> pl.DataFrame:
    """Rolls as corporate actions of their roots: prices before are rescaled, volumes are not."""
    return rolls.select(
        symbol="root",
        session="session",
        kind=pl.lit(ROLL),
        ratio=pl.lit(None, dtype=pl.Float64),
        price_factor="ratio",
        amount=pl.lit(None, dtype=pl.Float64),
    )


def front_bars(raw: pl.DataFrame, rolls: pl.DataFrame, settings: RollsConfig) -> pl.DataFrame:
    """Bars of the contract that is held in each session, under the name of its root, as they were quoted.

    Parameters
    ----------
    raw : polars.DataFrame
        Validated bars of the contracts.
    rolls : polars.DataFrame
        As `derive_rolls` gives them.
    settings : RollsConfig

    Returns
    -------
    polars.DataFrame
        Columns of ``raw`` and ``contract``, sorted by (symbol, session). ``adj_close`` is null: contracts neither
        split nor pay. A session in which the held contract has no bar has none.

    Raises
    ------
    BarContractError
        When nothing is left.
    """
    owned = raw.join(contracts_of(raw, settings).select("symbol", "root"), on="symbol")
    openings = (
        owned.filter(pl.col("session") == pl.col("session").min().over("root"))
        .join(contracts_of(raw, settings).select("symbol", "delivery"), on="symbol")
        .sort("root", "delivery", "symbol")
        .group_by("root", maintain_order=True)
        .agg(pl.col("session").first(), to_contract=pl.col("symbol").first())
    )
    spells = pl.concat([openings, rolls.select("root", "session", "to_contract")]).sort("root", "session")
    held = (
        owned.sort("root", "session")
        .join_asof(spells, on="session", by="root", strategy="backward", check_sortedness=False)
        .filter(pl.col("symbol") == pl.col("to_contract"))
    )
    if held.is_empty():
        raise BarContractError(
            "bars of the held contracts", expected="at least one", found="none", action="look at `rolls:`"
        )
    return (
        held.select(
            pl.col("root").alias("symbol"),
            *(pl.col(name) for name in raw.columns if name not in ("symbol", "adj_close")),
            adj_close=pl.lit(None, dtype=pl.Float64),
            contract="symbol",
        )
        .sort("symbol", "session")
        .select(*raw.columns, "contract")
    )


def aside_of_roots(aside: pl.DataFrame, settings: RollsConfig) -> pl.DataFrame:
    """Rows of contracts that are no bars, under the names of their roots; what is no contract stays as it is.

    Parameters
    ----------
    aside : polars.DataFrame
        `quant_assets.market.set_aside.ASIDE`. A row counts against its root only where that has no other bar in the
        row's session.
    settings : RollsConfig
    """
    listed = {contract.symbol: contract.root for contract in settings.contracts}

    def root_of(symbol: str) -> str:
        found = None if listed else CONTRACT.match(symbol)
        return found["root"] if found else listed.get(symbol, symbol)

    roots = {symbol: root_of(symbol) for symbol in aside["symbol"].drop_nulls().unique()}
    return aside.with_columns(pl.col("symbol").replace(roots))


def in_units(bars: pl.DataFrame, multipliers: dict[str, float], named: pl.Series) -> pl.DataFrame:
    """Volumes in units of the underlying: contracts times what one of them is worth per point.

    So price times volume is the traded value, which market impact is reckoned from. Names without a multiplier stay.

    Parameters
    ----------
    bars : polars.DataFrame
        ``symbol, volume`` and others.
    multipliers : dict of str to float
    named : polars.Series
        Every name of the universe's feed, those that were set aside included: their multipliers are no mistake.

    Raises
    ------
    ConfigurationError
        When a multiplier is of none of these names.
    """
    if not multipliers:
        return bars
    known = named.unique().sort().to_list()
    for name in multipliers:
        if name not in known:
            raise ConfigurationError(
                f"multiplier of {name!r}",
                expected=f"one of {', '.join(known[:5])}",
                found="no bars of that name",
                action=closest(name, known) or "correct `multipliers:` of the universe",
            )
    factor = pl.col("symbol").replace_strict(multipliers, default=1.0, return_dtype=pl.Float64)
    return bars.with_columns(pl.col("volume") * factor)


# ------------------------------------------------------------------------------------------- the proof


@dataclass(frozen=True)
class RollProof:
    """How many rolls were compared at how many closes, and what contradicts that each was known at its own."""

    n_compared: int
    n_cuts: int
    violations: tuple[str, ...]


def prove_rolls(
    raw: pl.DataFrame,
    stated: pl.DataFrame,
    rolls: RollsConfig,
    calendar: str,
    rule: RollRule = derive_rolls,
) -> RollProof:
    """Whether rolls are made of what was known when they were decided.

    At closes on which a roll was decided, and on the ones before them (at most twelve, spread over time), the rolls
    are derived again twice: from bars that end there, and from bars that are other ones from there on. Every roll
    that was decided by then has to come out the same, and no other one.

    Parameters
    ----------
    raw : polars.DataFrame
        Bars of the contracts.
    stated : polars.DataFrame
        The rolls to prove.
    rolls : RollsConfig
    calendar : str
    rule : callable, default `derive_rolls`
        What made them.
    """
    found = [
        f"{row['root']} {row['session']}: decided {row['decided_on']}, priced {row['priced_on']}"
        for row in stated.iter_rows(named=True)
        if not row["priced_on"] <= row["decided_on"] < row["session"]
    ]
    days = raw["session"].unique().sort()
    decided = days.search_sorted(stated["decided_on"].unique().sort()).to_list()
    every = sorted({cut for at in decided for cut in (at - 1, at) if cut >= 0})
    cuts = (
        every
        if len(every) <= MOST_CUTS
        else [every[i * (len(every) - 1) // (MOST_CUTS - 1)] for i in range(MOST_CUTS)]
    )
    compared = 0
    for cut in cuts:
        day = days[cut]
        before = stated.filter(pl.col("decided_on") <= day)
        later = pl.col("session") > day
        # Volumes swap their order and prices move by a fifth, by session and contract.
        other = raw.with_columns(
            pl.when(later).then(1e6 / (1.0 + pl.col("volume"))).otherwise(pl.col("volume")).alias("volume"),
            pl.when(later).then(pl.col("close") * 1.2).otherwise(pl.col("close")).alias("close"),
        )
        for how, bars in (("bars end", raw.filter(~later)), ("bars change", other)):
            again = rule(bars, rolls, calendar).filter(pl.col("decided_on") <= day)
            compared += before.height
            if not again.equals(before):
                count = f"{again.height} for {before.height}"
                found.append(f"other rolls where {how} after {day}: {count}, {_first(again, before)}")
    return RollProof(compared, len(cuts), tuple(found))


def _first(one: pl.DataFrame, other: pl.DataFrame) -> str:
    """The first roll that only one of the two has."""
    apart = pl.concat(
        [one.join(other, on=one.columns, how="anti"), other.join(one, on=one.columns, how="anti")]
    )
    rows: Sequence[tuple[object, ...]] = apart.sort("root", "session").head(1).rows()
    return f"the first {rows[0][0]} {rows[0][1]}" if rows else "in another order"
