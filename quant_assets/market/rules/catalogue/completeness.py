"""Rules about which bars there are: on days with a session, one each, none missing, and not too many taken out."""

from datetime import timedelta

import polars as pl

from quant_assets.common.universe_settings import MOST_OF_A_SYMBOL
from quant_assets.market.actions import WITHOUT_A_READING
from quant_assets.market.calendar import session_shares, sessions
from quant_assets.market.listings import LISTINGS, UNLISTED, inside
from quant_assets.market.rules.bar_rule import KEY, ROW_CONTRACT, WHOLE, BarRule, Judged, Limit, register
from quant_assets.market.spells import as_known

# A feed whose dates are moved by a day has a fifth of its bars on a weekend; single strangers are below this.
SHIFTED_FRACTION = 0.1
FITTING_FRACTION = 0.02


# ---------------------------------------------------------------------------------- days that are no sessions


def _off_calendar(judged: Judged) -> pl.DataFrame:
    """Those of the bars whose day is no session of the calendar."""
    open_days = session_shares(judged.bars["session"], judged.calendar)["session"]
    return judged.bars.filter(~pl.col("session").is_in(open_days.implode()))


def _outside_calendar(judged: Judged) -> pl.DataFrame:
    closed = (
        pl.when(pl.col("session").dt.weekday() > 5).then(pl.lit("a weekend")).otherwise(pl.lit("a holiday"))
    )
    return _off_calendar(judged).with_columns(
        observed=pl.lit(0.0),
        limit=pl.lit(1.0),
        day=pl.col("session").dt.strftime("%A"),
        closed=closed,
        calendar=pl.lit(judged.calendar),
    )


register(
    BarRule(
        name="sessions_outside_calendar",
        judged_on="rows",
        rank=10,
        severity="QUARANTINE",
        description="A bar lies on a day without a session: a weekend or holiday (observed: sessions that day).",
        measure=_outside_calendar,
        evidence="{day} {session} is {closed}: no session of {calendar}",
        may_be=("QUARANTINE", "ERROR"),
    )
)


def _outside_listing(judged: Judged) -> pl.DataFrame:
    """Bars that no spell of their symbol holds, with the spells that there are."""
    told = judged.bars.clear().select("row", observed=pl.lit(0.0), limit=pl.lit(1.0), spells=pl.lit(""))
    if judged.listings is None:
        return told
    outside = judged.bars.filter(pl.col("symbol").str.ends_with(UNLISTED))
    spell = pl.col("valid_from").cast(pl.String) + pl.lit(" to ")
    spells = (
        as_known(judged.listings, LISTINGS)
        .sort("symbol", "valid_from")
        .group_by("symbol", maintain_order=True)
        .agg(spells=(spell + pl.col("valid_to").cast(pl.String).fill_null("now")).str.join(", "))
    )
    return outside.select(
        "row", ticker=pl.col("symbol").str.strip_suffix(UNLISTED), observed=pl.lit(0.0), limit=pl.lit(1.0)
    ).join(spells, left_on="ticker", right_on="symbol", how="left", maintain_order="left")


register(
    BarRule(
        name="outside_listing",
        judged_on="rows",
        rank=12,
        severity="QUARANTINE",
        description="A bar lies outside every listing of its symbol (observed: listings that day).",
        measure=_outside_listing,
        evidence="its symbol was listed {spells}",
        may_be=("QUARANTINE", "ERROR"),
    )
)


def _shifted(judged: Judged) -> tuple[pl.DataFrame, int]:
    """Symbols with many bars off the calendar and hardly any when every date is moved by one day."""
    empty = pl.DataFrame(
        schema={"symbol": pl.String, "session": pl.Date, "observed": pl.Int32, "limit": pl.Int32}
    )
    ready, n_symbols = judged.bars, judged.bars["symbol"].n_unique()
    if ready.is_empty():
        return empty, n_symbols
    totals = ready.group_by("symbol").agg(n_bars=pl.len(), session=pl.col("session").min())
    strangers = _off_calendar(judged).group_by("symbol").agg(n_off=pl.len())
    doubtful = totals.join(strangers, on="symbol").filter(
        pl.col("n_off") > SHIFTED_FRACTION * pl.col("n_bars")
    )
    if doubtful.is_empty():
        return empty, n_symbols
    rows = ready.join(doubtful, on="symbol", how="semi")
    first, last = rows.select(pl.col("session").min().alias("a"), pl.col("session").max().alias("b")).row(0)
    calendar = sessions(judged.calendar, first - timedelta(days=1), last + timedelta(days=1))
    found = [empty]
    for days in (1, -1):
        fits = (pl.col("session").dt.offset_by(f"{days}d")).is_in(calendar.implode())
        moved = rows.group_by("symbol").agg(fitting=fits.mean())
        fitting = doubtful.join(moved.filter(pl.col("fitting") >= 1 - FITTING_FRACTION), on="symbol")
        found.append(fitting.select("symbol", "session", observed=pl.lit(days), limit=pl.lit(0)))
    return pl.concat(found).unique("symbol", keep="first", maintain_order=True), n_symbols


register(
    BarRule(
        name="shifted_sessions",
        judged_on="feed",
        rank=210,
        severity="SET_ASIDE",
        description="A symbol's dates fit the calendar only when moved by a day (observed: days, later positive).",
        measure=_shifted,
        acceptable=True,
    )
)


# -------------------------------------------------------------------------------------- bars that are missing


def _duplicate_keys(judged: Judged) -> pl.DataFrame:
    # The bars are in order, so that one of a session lies next to another.
    again = pl.all_horizontal(pl.col(name) == pl.col(name).shift() for name in KEY)
    twice = judged.bars.filter(again).select(KEY).unique()
    counted = judged.bars.join(twice, on=KEY, how="semi").group_by(KEY).agg(observed=pl.len(), limit=1)
    return counted.filter(pl.col("observed") > 1)


register(
    BarRule(
        name="duplicate_keys",
        judged_on="panel",
        rank=40,
        severity="SET_ASIDE",
        description="A symbol has more than one bar in a session (observed: how many).",
        measure=_duplicate_keys,
    )
)


def _absent(judged: Judged) -> tuple[pl.DataFrame, pl.DataFrame]:
    """How many sessions each symbol should have (``n_expected``), and those that have no bar, by their number."""
    spans = judged.bars.group_by("symbol").agg(first=pl.col("session").min(), last=pl.col("session").max())
    if spans.is_empty():
        empty = pl.DataFrame(schema={"symbol": pl.String, "session": pl.Date, "position": pl.Int64})
        return pl.DataFrame(schema={"symbol": pl.String, "n_expected": pl.Int64}), empty
    first, last = spans.select(pl.col("first").min(), pl.col("last").max()).row(0)
    calendar = sessions(judged.calendar, first, last).to_frame("session")
    calendar = calendar.with_columns(position=pl.int_range(pl.len()))
    # Sessions between two days, counted: a grid of all symbols and sessions is as large as the panel.
    ordered = spans.sort("last").join_asof(
        calendar.select(pl.col("session"), upto=pl.col("position") + 1), left_on="last", right_on="session"
    )
    before = calendar.select("session", start="position")
    ordered = ordered.sort("first").join_asof(
        before, left_on="first", right_on="session", strategy="forward", suffix=".first"
    )
    expected = ordered.select("symbol", "first", "last", n_expected=pl.col("upto") - pl.col("start"))
    on_calendar = judged.bars
    if on_calendar.select(KEY[1]).unique().join(calendar, on="session", how="anti").height:
        on_calendar = on_calendar.filter(pl.col("session").is_in(calendar["session"].implode()))
    have = on_calendar.group_by("symbol").agg(have=pl.col("session").n_unique())
    lacking = expected.join(have, on="symbol", how="left").filter(
        pl.col("have").fill_null(0) < pl.col("n_expected")
    )
    grid = (
        lacking.select("symbol", "first", "last")
        .join(calendar, how="cross")
        .filter(pl.col("session").is_between("first", "last"))
        .select(*KEY, "position")
    )
    absent = grid.join(judged.bars, on=KEY, how="anti").join(judged.aside, on=KEY, how="anti")
    return expected.select("symbol", "n_expected"), absent


MISSING_FRACTION = Limit("max_missing_fraction", 0.01, "missing sessions per symbol", at_least=0, at_most=1)


def _missing_fraction(judged: Judged) -> tuple[pl.DataFrame, int]:
    n_expected, absent = judged.once("absent", _absent)
    gaps = absent.group_by("symbol").agg(n_absent=pl.len(), session=pl.col("session").min())
    limit = judged.limit(MISSING_FRACTION)
    share = gaps.join(n_expected, on="symbol").with_columns(
        observed=pl.col("n_absent") / pl.col("n_expected"), limit=limit
    )
    return share.filter(pl.col("observed") > limit), n_expected.height


register(
    BarRule(
        name="missing_fraction",
        judged_on="panel",
        rank=50,
        severity="SET_ASIDE",
        description="A symbol misses more than a fraction of the sessions between its first and last bar.",
        measure=_missing_fraction,
        evidence="{n_absent} of {n_expected} sessions between its first and last bar are missing",
        limits=(MISSING_FRACTION,),
        acceptable=True,
    )
)


def _missing_sessions(judged: Judged) -> tuple[pl.DataFrame, int]:
    expected, absent = judged.once("absent", _absent)
    return absent.with_columns(observed=0, limit=1), int(expected["n_expected"].sum())


register(
    BarRule(
        name="missing_sessions",
        judged_on="panel",
        rank=80,
        severity="WARN",
        description="A session between a symbol's first and last bar has no bar (observed: 0 bars).",
        measure=_missing_sessions,
        may_be=("WARN", "ERROR"),
        acceptable=True,
    )
)


LONG_GAP = Limit("long_gap_sessions", 10, "missing sessions in a row", at_least=2, whole=True)


def _long_gap(judged: Judged) -> tuple[pl.DataFrame, int]:
    expected, absent = judged.once("absent", _absent)
    limit = judged.limit(LONG_GAP)
    # Consecutive positions minus a running count are equal within a run.
    runs = (
        absent.sort(KEY)
        .with_columns(run=(pl.col("position") - pl.int_range(pl.len())).over("symbol"))
        .group_by("symbol", "run")
        .agg(session=pl.col("session").min(), observed=pl.len(), limit=limit)
    )
    return runs.filter(pl.col("observed") >= limit), int(expected["n_expected"].sum())


register(
    BarRule(
        name="long_gap",
        judged_on="panel",
        rank=90,
        severity="WARN",
        description="So many sessions in a row have no bar (observed: the run).",
        measure=_long_gap,
        limits=(LONG_GAP,),
        may_be=("WARN", "ERROR"),
        acceptable=True,
    )
)


def _actions_without_bar(judged: Judged) -> tuple[pl.DataFrame, int]:
    strays = judged.actions.join(judged.bars, on=KEY, how="anti").join(judged.aside, on=KEY, how="anti")
    return strays.with_columns(observed=pl.col("price_factor"), limit=1.0), judged.actions.height


register(
    BarRule(
        name="actions_without_bar",
        judged_on="actions",
        rank=140,
        severity="WARN",
        description="A corporate action falls on a day without a bar (observed: price factor).",
        measure=_actions_without_bar,
        may_be=("WARN", "ERROR"),
        acceptable=True,
    )
)


def _contradictory_actions(judged: Judged) -> tuple[pl.DataFrame, int]:
    """Symbols whose adjusted close moves as no action can move it: nobody knows what their bars are adjusted for."""
    doubts = judged.doubts
    if doubts is None or doubts.is_empty():
        none = {"symbol": pl.String, "session": pl.Date, "observed": pl.Int64, "limit": pl.Int64}
        return pl.DataFrame(schema=none), judged.bars["symbol"].n_unique()
    wrong = doubts.filter(pl.col("kind").is_in(WITHOUT_A_READING))
    # Prices that slipped for days and are in quarantine say nothing about the name's other bars.
    slipped = (pl.col("kind") == "undone_split") & pl.col("quarantined")
    taken = judged.aside.select(KEY).drop_nulls().unique().with_columns(quarantined=pl.lit(value=True))
    wrong = wrong.join(taken, on=KEY, how="left", maintain_order="left").with_columns(
        pl.col("quarantined").fill_null(value=False)
    )
    wrong = wrong.filter(~slipped)
    told = wrong.select("symbol", "session", "candidates", said="evidence")
    return told.with_columns(observed=pl.len().over("symbol"), limit=pl.lit(0)), judged.bars[
        "symbol"
    ].n_unique()


register(
    BarRule(
        name="contradictory_actions",
        judged_on="feed",
        rank=205,
        severity="SET_ASIDE",
        description="adj_close contradicts close: their ratio moves as no corporate action can move it, or back "
        "within days (observed: places).",
        measure=_contradictory_actions,
        evidence="{said}; settle it under `actions:` ({candidates})",
        may_be=("SET_ASIDE", "ERROR"),
        acceptable=True,
    )
)


# ----------------------------------------------------------------------------------------- what was taken out


QUARANTINED_FRACTION = Limit(
    "max_quarantined_fraction", MOST_OF_A_SYMBOL, "per symbol", at_least=0, at_most=0.2
)


def _quarantined_fraction(judged: Judged) -> tuple[pl.DataFrame, int]:
    """Symbols of which too much was taken out or was no bar, at the first session of these."""
    limit = judged.limit(QUARANTINED_FRACTION)
    # Bars of no instrument are no part of any: however many there are, the feed of the listed ones may be right.
    bars = judged.bars if judged.listings is None else inside(judged.bars)
    aside = judged.aside if judged.listings is None else inside(judged.aside)
    taken = aside.group_by("symbol").agg(
        n_taken=pl.col("n").sum(),
        n_no_bars=pl.col("n").filter(pl.col("row").is_null()).sum(),
        session=pl.col("session").min(),
    )
    totals = bars.group_by("symbol").agg(n_bars=pl.len())
    fractions = taken.join(totals, on="symbol", how="left").with_columns(
        n_bars=pl.col("n_bars").fill_null(0) + pl.col("n_no_bars")
    )
    shares = fractions.with_columns(observed=pl.col("n_taken") / pl.col("n_bars"), limit=pl.lit(limit))
    n_symbols = pl.concat([bars["symbol"], aside["symbol"]]).drop_nulls().n_unique()
    return shares.filter((pl.col("observed") > limit) & pl.col("symbol").is_not_null()), n_symbols


register(
    BarRule(
        name="quarantined_fraction",
        judged_on="feed",
        rank=220,
        severity="SET_ASIDE",
        description="More than a fraction of a symbol's bars was quarantined or no bar: the feed is wrong, "
        "not some rows of it.",
        measure=_quarantined_fraction,
        evidence="{n_taken} of its {n_bars} rows are quarantined or no bars",
        limits=(QUARANTINED_FRACTION,),
        acceptable=True,
    )
)


# A row that is no bar has no value that could be let through, and a symbol goes by a rule that can be accepted.
def _row_contract(judged: Judged) -> pl.DataFrame:
    return judged.bars.filter(pl.col("rule") == ROW_CONTRACT)


register(
    BarRule(
        name=ROW_CONTRACT,
        judged_on="aside",
        rank=910,
        severity="WARN",
        description="Rows that are no bars were left out of the feed (observed: how many).",
        measure=_row_contract,
        evidence="{evidence}",
    )
)


def _symbols_set_aside(judged: Judged) -> tuple[pl.DataFrame, int]:
    whole = judged.bars.filter(pl.col("evidence").str.contains(WHOLE, literal=True))
    first = whole.sort("session").group_by("symbol", maintain_order=True).first()
    n_rows = judged.bars.group_by("symbol").agg(
        observed=pl.when(pl.col("rule") == ROW_CONTRACT).then(pl.col("observed")).otherwise(1.0).sum()
    )
    return first.drop("observed").join(n_rows, on="symbol").with_columns(limit=0.0), first.height


register(
    BarRule(
        name="symbols_set_aside",
        judged_on="aside",
        rank=920,
        severity="WARN",
        description="A symbol is left out as a whole, within `set_aside.symbols` (observed: its rows).",
        measure=_symbols_set_aside,
        evidence="{evidence}",
    )
)


def _accepted_without_match(judged: Judged) -> pl.DataFrame:
    stale = judged.bars.join(judged.aside, on=[*KEY, "rule"], how="anti", nulls_equal=True)
    return stale.with_columns(observed=0.0, limit=1.0)


register(
    BarRule(
        name="accepted_without_match",
        judged_on="acceptances",
        rank=900,
        severity="WARN",
        description="A bar accepted in the configuration is not suspicious, or not there (observed: matches).",
        measure=_accepted_without_match,
    )
)
