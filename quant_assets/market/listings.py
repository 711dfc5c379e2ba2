"""Listings: which instrument a symbol was when, how it ended, and since when that was known.

A symbol that was used twice is two instruments. In the panel the last one keeps the symbol and earlier ones are named
``FB:19970101``, by the first day on which they had it; an instrument that changed its symbol has the last one
throughout. Bars outside every spell of their symbol are named ``FB:unlisted`` and go into quarantine.
"""

from dataclasses import dataclass
from datetime import date, datetime

import polars as pl

from quant_assets.common.errors import ListingError, closest
from quant_assets.common.listing_settings import DELISTING_RETURN, END_KNOWN_AT, LISTED_UNTIL
from quant_assets.common.settings import SyntheticSource, UniverseConfig
from quant_assets.common.source_settings import SYMBOL, SYMBOL_RULE
from quant_assets.market.spells import INSTANT, SpellContract, as_known, refuse

END_KINDS = ("merger_cash", "merger_stock", "bankruptcy", "moved", "other", "unknown")
LISTINGS = SpellContract(
    what="listings",
    schema={
        "instrument_id": pl.String,
        "symbol": pl.String,
        "exchange": pl.String,
        "valid_from": pl.Date,
        "valid_to": pl.Date,
        "end_kind": pl.String,
        "delisting_return": pl.Float64,
        "known_at": INSTANT,
        "source": pl.String,
    },
    may_be_null=("valid_to", "end_kind", "delisting_return"),
    key=("instrument_id", "symbol", "exchange", "valid_from"),
    alone=("symbol", "exchange"),
)
UNLISTED = ":unlisted"


# A fraction of the last close: 30 is thirty times it, and was meant as per cent.
MOST_DELISTING_RETURN = 5.0


def require_listings(spells: pl.DataFrame, origin: str) -> pl.DataFrame:
    """Listings whose symbols, ends and returns can be.

    Raises
    ------
    ListingError
        For a symbol that is none, an unknown kind of end, a return outside -1 to 5, and an end told of an open spell.
    """
    numbered = spells.with_row_index("row", offset=1)

    def require(broken: pl.Expr, expected: str, *shown: str) -> None:
        refuse(numbered.filter(broken), LISTINGS, origin, expected, (*LISTINGS.key[:2], *shown))

    kind, told = pl.col("end_kind"), pl.col("delisting_return")
    require(~pl.col("symbol").str.contains(SYMBOL), f"symbols of {SYMBOL_RULE}")
    unknown = numbered.filter(~kind.is_in(END_KINDS))
    near = closest(unknown["end_kind"][0], END_KINDS) if unknown.height else ""
    require(~kind.is_in(END_KINDS), f"end_kind one of {', '.join(END_KINDS)} {near}".strip(), "end_kind")
    sound = told.is_finite() & told.is_between(-1, MOST_DELISTING_RETURN)
    require(
        ~sound, f"a delisting_return from -1 to {MOST_DELISTING_RETURN:g}, a fraction", "delisting_return"
    )
    ends = kind.is_not_null() | told.is_not_null()
    require(
        pl.col("valid_to").is_null() & ends, "an end only of a spell that has ended (valid_to)", "end_kind"
    )
    return spells.with_columns(
        end_kind=pl.when(pl.col("valid_to").is_not_null()).then(kind.fill_null("unknown"))
    )


# ------------------------------------------------------------------------------------ instruments and their names


def instruments(listings: pl.DataFrame, at: datetime | None = None) -> pl.DataFrame:
    """Every instrument with its name in the panel, and how it ended, as known at a time.

    Parameters
    ----------
    listings : polars.DataFrame
        As `require_listings` gives them.
    at : datetime, optional
        What was known then is told; everything, when none is given. Names are always those of everything.

    Returns
    -------
    polars.DataFrame
        ``instrument_id, name, valid_from`` (of its first spell), and of its last spell ``listed_until`` (null while
        it is listed, and where it only moved), ``end_kind, delisting_return, end_known_at``; sorted by name.
    """
    spells = as_known(listings, LISTINGS).sort("valid_from", "symbol", "exchange")
    last = spells.group_by("instrument_id").agg(pl.col("symbol", "valid_from").last())
    since = spells.group_by("instrument_id", "symbol").agg(since=pl.col("valid_from").min())
    named = (
        last.join(since, on=["instrument_id", "symbol"])
        .sort("symbol", "valid_from", "instrument_id", descending=[False, True, True])
        .with_columns(turn=pl.int_range(pl.len()).over("symbol"))
        .with_columns(twin=pl.int_range(pl.len()).over("symbol", "since"))
        .select(
            "instrument_id",
            name=pl.when(pl.col("turn") == 0)
            .then(pl.col("symbol"))
            .otherwise(
                pl.col("symbol")
                + pl.col("since").dt.strftime(":%Y%m%d")
                + pl.when(pl.col("twin") > 0).then(pl.format(".{}", "twin")).otherwise(pl.lit(""))
            ),
        )
    )
    ended = pl.col("valid_to").is_not_null() & (pl.col("end_kind") != "moved")
    ends = (
        as_known(listings, LISTINGS, at)
        .sort("valid_from", "symbol", "exchange")
        .group_by("instrument_id")
        .agg(
            pl.col("valid_from").min(),
            pl.col("valid_to", "end_kind", "delisting_return", "known_at").last(),
        )
        .select(
            "instrument_id",
            "valid_from",
            pl.when(ended).then(pl.col("valid_to")).alias(LISTED_UNTIL),
            pl.when(ended).then(pl.col("end_kind")).alias("end_kind"),
            pl.when(ended).then(pl.col("delisting_return")).alias(DELISTING_RETURN),
            pl.when(ended).then(pl.col("known_at")).alias(END_KNOWN_AT),
        )
    )
    return named.join(ends, on="instrument_id", how="left").sort("name")


def by_instrument(bars: pl.DataFrame, listings: pl.DataFrame) -> pl.DataFrame:
    """Bars whose ``symbol`` is the name of their instrument, sorted by it and session.

    Parameters
    ----------
    bars : polars.DataFrame
        ``symbol, session`` and whatever else. A symbol that is the name of an instrument fits it as well: a source
        may have the whole history of a company under its last symbol, and named bars come out as they went in.
    listings : polars.DataFrame
        As `require_listings` gives them.

    Returns
    -------
    polars.DataFrame
        The same columns. A symbol without any listing stays as it is; a bar outside every spell of its symbol is
        named by the symbol and `UNLISTED`.

    Raises
    ------
    ListingError
        When a bar could be of two instruments, or an instrument gets two bars in a session.
    """
    names = instruments(listings).select("instrument_id", "name")
    keys = bars.select("symbol", "session").with_row_index("row")
    spells = _named_spells(listings)
    found = _instrument_of(keys, spells)
    _require_one(found.join(keys, on="row"), ["symbol", "session"], "name", "one instrument", names)
    named = bars.with_row_index("row").join(found, on="row", how="left", maintain_order="left")
    twice = named.filter(pl.col("name").is_not_null())
    _require_one(twice, ["name", "session"], "symbol", "one bar of each instrument and session", names)
    return (
        named.with_columns(symbol=pl.coalesce("name", _outside(spells)))
        .select(bars.columns)
        .sort("symbol", "session")
    )


def aside_by_instrument(aside: pl.DataFrame, listings: pl.DataFrame) -> pl.DataFrame:
    """Rows that are no bars under the names that `by_instrument` gives to bars of their symbol and session.

    Parameters
    ----------
    aside : polars.DataFrame
        `quant_assets.market.set_aside.ASIDE`. A row whose symbol or session cannot be read keeps its symbol; several
        rows may have one session.
    listings : polars.DataFrame
    """
    keys = aside.select("symbol", "session").with_row_index("number")
    spells = _named_spells(listings)
    found = _instrument_of(keys.drop_nulls().rename({"number": "row"}), spells).unique("row", keep="first")
    outside = pl.when(pl.col("session").is_not_null()).then(_outside(spells)).otherwise("symbol")
    named = keys.join(found, left_on="number", right_on="row", how="left", maintain_order="left")
    return aside.with_columns(named.select(symbol=pl.coalesce("name", outside)).to_series())


def _named_spells(listings: pl.DataFrame) -> pl.DataFrame:
    """``symbol, name, valid_from, valid_to`` of every spell as it is known last."""
    names = instruments(listings).select("instrument_id", "name")
    return (
        as_known(listings, LISTINGS)
        .join(names, on="instrument_id")
        .select("symbol", "name", "valid_from", "valid_to")
    )


def _instrument_of(keys: pl.DataFrame, spells: pl.DataFrame) -> pl.DataFrame:
    """``row`` and ``name`` of every key in a spell of its symbol or, where there is none, of the name that it is."""
    found = _within(keys, spells)
    rest = keys.join(found, on="row", how="anti")
    return pl.concat([found, _within(rest, spells.with_columns(symbol=pl.col("name")))])


def _outside(spells: pl.DataFrame) -> pl.Expr:
    """What a bar in no spell is called: a symbol that nothing lists keeps its name."""
    known = pl.concat([spells["symbol"], spells["name"]]).unique().implode()
    return pl.when(pl.col("symbol").is_in(known)).then(pl.col("symbol") + UNLISTED).otherwise("symbol")


def _within(keys: pl.DataFrame, spells: pl.DataFrame) -> pl.DataFrame:
    """``row`` and ``name`` of every key that lies in a spell of its symbol; an instrument once."""
    last = pl.col("valid_to").is_null() | (pl.col("session") <= pl.col("valid_to"))
    return (
        keys.join(spells, on="symbol")
        .filter((pl.col("valid_from") <= pl.col("session")) & last)
        .select("row", "name")
        .unique(maintain_order=True)
    )


def _require_one(rows: pl.DataFrame, key: list[str], other: str, expected: str, names: pl.DataFrame) -> None:
    double = rows.filter(pl.struct(key).is_duplicated()).sort(*key, other)
    if double.height:
        shown = double.group_by(key, maintain_order=True).agg(pl.col(other)).head(3)
        told = "; ".join(f"{first} on {day}: {' and '.join(many)}" for first, day, many in shown.iter_rows())
        raise ListingError(
            "bars and listings",
            expected=expected,
            found=told,
            action="give the listings of the exchange that these bars are from alone, and each company's bars once",
        )


def inside(bars: pl.DataFrame) -> pl.DataFrame:
    """Named bars without those outside every spell of their symbol."""
    return bars.filter(~pl.col("symbol").str.ends_with(UNLISTED))


# ----------------------------------------------------------------------------------------------- how names ended


def with_ends(bars: pl.DataFrame, listings: pl.DataFrame) -> pl.DataFrame:
    """Adjusted bars that say on the last bar of a name how it ended, where that was known by the last close of all.

    Parameters
    ----------
    bars : polars.DataFrame
        ``symbol`` (of `by_instrument`), ``session, known_at``.
    listings : polars.DataFrame

    Returns
    -------
    polars.DataFrame
        With ``listed_until, delisting_return, end_known_at``; as it came when no name ended.
    """
    at = bars["known_at"].max()
    if not isinstance(at, datetime):
        return bars
    ends = instruments(listings, at).filter(pl.col(LISTED_UNTIL).is_not_null())
    told = ends.select("name", LISTED_UNTIL, DELISTING_RETURN, END_KNOWN_AT)
    last = bars.group_by("symbol").agg(pl.col("session").max())
    ended = last.join(told, left_on="symbol", right_on="name")
    if ended.is_empty():
        return bars
    return bars.join(ended, on=["symbol", "session"], how="left", maintain_order="left")


def ends_known(history: pl.DataFrame) -> pl.DataFrame:
    """``symbol, listed_until, delisting_return`` of the names whose end was known by the last close of a panel.

    Parameters
    ----------
    history : polars.DataFrame
        Rows of `with_ends`, also where no name ended.
    """
    if END_KNOWN_AT not in history.columns:
        return pl.DataFrame(schema={"symbol": pl.String, LISTED_UNTIL: pl.Date, DELISTING_RETURN: pl.Float64})
    told = history.filter(pl.col(END_KNOWN_AT) <= pl.col("known_at").max())
    return told.select("symbol", LISTED_UNTIL, DELISTING_RETURN)


@dataclass(frozen=True)
class Survivorship:
    """Whether it is proven that the names of a panel were not chosen by their survival, and what says so."""

    proven: bool
    sentence: str
    ended: dict[str, int]


NOT_PROVEN = "survivorship: not proven"


def survivorship(
    symbols: pl.Series,
    listings: pl.DataFrame | None,
    universe: UniverseConfig,
    *,
    of_a_group: bool = False,
) -> Survivorship:
    """Hold the names of a panel against the listings of its universe.

    Parameters
    ----------
    symbols : polars.Series
        Names that have bars.
    listings : polars.DataFrame, optional
    universe : UniverseConfig
        Its dates, and its ``symbols`` where it says which.
    of_a_group : bool
        Whether only members of a group are traded: then it is they who must have bars
        (`quant_assets.market.memberships.members_without_bars`), not every listed instrument.

    Returns
    -------
    Survivorship
        Proven where every name is covered by a listing and every instrument that was listed between the dates has
        bars. A made up market whose names all live to its end needs no listings.
    """
    if listings is None:
        if all(isinstance(source, SyntheticSource) for source in universe.sources.values()):
            return Survivorship(True, "a made up market in which no name ends", {})
        return Survivorship(
            False,
            f"{NOT_PROVEN}. No listings say which names there were: those that were delisted before the data were "
            "drawn may be missing, and a book that never held them is flattered",
            {},
        )
    known = instruments(listings)
    alive = known.filter(
        (pl.col("valid_from") <= universe.end)
        & (pl.col(LISTED_UNTIL).is_null() | (pl.col(LISTED_UNTIL) >= universe.start))
    )
    wanted = alive.clear() if of_a_group else alive
    if universe.symbols is not None:
        chosen = listings.filter(pl.col("symbol").is_in(universe.symbols))["instrument_id"].unique()
        wanted = alive.filter(pl.col("instrument_id").is_in(chosen.implode()))
    without = wanted.filter(~pl.col("name").is_in(symbols.implode()))["name"].to_list()
    uncovered = sorted(set(symbols.to_list()) - set(known["name"].to_list()))
    ended = alive.filter(pl.col("name").is_in(symbols.implode()) & _ended_by(universe.end))
    kinds = dict(ended.group_by("end_kind").len().sort("end_kind").iter_rows())
    told = ended[DELISTING_RETURN].is_not_null().sum()
    how = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
    words = (
        f"listings of {alive.filter(pl.col('name').is_in(symbols.implode())).height} instruments, of which "
        f"{ended.height} ended{f' ({how}; the final return of {told} is known)' if ended.height else ''}"
    )
    doubts = [
        f"{len(names)} {what} ({first_few(names)})"
        for names, what in (
            (uncovered, "names have no listing"),
            (without, "listed instruments have no bars"),
        )
        if names
    ]
    if doubts:
        return Survivorship(False, f"{NOT_PROVEN}. {'; '.join(doubts)}; {words}", kinds)
    return Survivorship(True, words, kinds)


def first_few(names: list[str]) -> str:
    """Some names of many."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _ended_by(end: date) -> pl.Expr:
    return pl.col(LISTED_UNTIL).is_not_null() & (pl.col(LISTED_UNTIL) < end)
