"""Rules about the panel as a whole: sessions without names, few names at the end, and what its edges leave out.

A hole that all names share is no hole of any of them, and a holdout of three names proves little: neither shows in a
rule that looks at one symbol at a time.
"""

from datetime import date

import polars as pl

from quant_assets.common.listing_settings import LISTED_UNTIL
from quant_assets.market.calendar import sessions
from quant_assets.market.parsing import sentence
from quant_assets.market.rules.bar_rule import KEY, BarRule, Judged, Limit, register

EVERY_NAME = "(every name)"  # where a finding is about no single symbol: it is none that a feed can have
FEWEST_NAMES = 4  # of fewer, one that is missing already is a quarter

_EMPTY = pl.DataFrame(
    schema={"symbol": pl.String, "session": pl.Date, "observed": pl.Int64, "limit": pl.Int64}
)


def _names(judged: Judged) -> pl.DataFrame:
    """Every session of the panel: ``session``, names that ``have`` a bar, and that are ``alive``; in order.

    A name is alive from its first to its last bar. A bar in quarantine was there.
    """
    bars = pl.concat([judged.bars.select(KEY), judged.aside.select(KEY)]).unique()
    if bars.is_empty():
        return pl.DataFrame(schema={"session": pl.Date, "have": pl.Int64, "alive": pl.Int64})
    spans = bars.group_by("symbol").agg(first=pl.col("session").min(), last=pl.col("session").max())
    begun = spans.group_by(session="first").agg(begun=pl.len())
    over = spans.group_by(session="last").agg(over=pl.len())
    first, last = bars.select(first=pl.col("session").min(), last=pl.col("session").max()).row(0)
    grid = sessions(judged.calendar, first, last).to_frame("session")
    counted = bars.group_by("session").agg(have=pl.len())
    return (
        grid.join(counted, on="session", how="left")
        .join(begun, on="session", how="left")
        .join(over, on="session", how="left")
        .sort("session")
        .with_columns(pl.col("have", "begun", "over").fill_null(0).cast(pl.Int64))
        .select(
            "session", "have", alive=pl.col("begun").cum_sum() - pl.col("over").cum_sum().shift(fill_value=0)
        )
    )


# ------------------------------------------------------------------------------ sessions with no or few names


COMMON_GAP = Limit(
    "common_gap_sessions", 5, "sessions in a row without a bar of any name", at_least=2, whole=True
)


def _empty_runs(judged: Judged) -> pl.DataFrame:
    """Runs of sessions in which no name has a bar: session (the first), last, observed (how many)."""
    empty = judged.once("names", _names).with_row_index("at").filter(pl.col("have") == 0)
    return (
        empty.with_columns(run=pl.col("at").cast(pl.Int64) - pl.int_range(pl.len()))
        .group_by("run", maintain_order=True)
        .agg(session=pl.col("session").min(), until=pl.col("session").max(), observed=pl.len().cast(pl.Int64))
        .select(pl.lit(EVERY_NAME).alias("symbol"), "session", "until", "observed")
    )


def _empty_sessions(judged: Judged) -> tuple[pl.DataFrame, int]:
    limit = int(judged.limit(COMMON_GAP))
    short = _empty_runs(judged).filter(pl.col("observed") < limit).with_columns(limit=pl.lit(limit))
    return short, judged.once("names", _names).height


def _common_gap(judged: Judged) -> tuple[pl.DataFrame, int]:
    limit = int(judged.limit(COMMON_GAP))
    long = _empty_runs(judged).filter(pl.col("observed") >= limit).with_columns(limit=pl.lit(limit))
    return long, judged.once("names", _names).height


register(
    BarRule(
        name="common_gap",
        judged_on="panel",
        rank=82,
        severity="ERROR",
        description="So many sessions in a row have no bar of any name: a hole in the feed (observed: the run).",
        measure=_common_gap,
        evidence="no name has a bar from {session} to {until}, {observed} sessions of the calendar",
        limits=(COMMON_GAP,),
        may_be=("ERROR", "WARN"),
    )
)
register(
    BarRule(
        name="empty_sessions",
        judged_on="panel",
        rank=84,
        severity="WARN",
        description="A few sessions have no bar of any name: a hole, or a closure that the calendar does not know "
        "(observed: the run).",
        measure=_empty_sessions,
        evidence="no name has a bar from {session} to {until}, {observed} sessions of the calendar",
        limits=(COMMON_GAP,),
        may_be=("WARN", "ERROR"),
    )
)


THIN = Limit("thin_session_fraction", 0.5, "names with a bar, of those alive", at_least=0, at_most=1)


def _thin_sessions(judged: Judged) -> tuple[pl.DataFrame, int]:
    limit, names = judged.limit(THIN), judged.once("names", _names)
    thin = names.filter((pl.col("have") > 0) & (pl.col("alive") >= FEWEST_NAMES)).with_columns(
        symbol=pl.lit(EVERY_NAME), observed=pl.col("have") / pl.col("alive"), limit=pl.lit(limit)
    )
    return thin.filter(pl.col("observed") < limit), names.height


register(
    BarRule(
        name="thin_sessions",
        judged_on="panel",
        rank=86,
        severity="WARN",
        description="A session has bars of less than a fraction of the names that are listed then.",
        measure=_thin_sessions,
        evidence="{have} of {alive} names have a bar",
        limits=(THIN,),
        may_be=("WARN", "ERROR"),
    )
)


# ---------------------------------------------------------------------------------------- edges of the panel


RECENT = Limit("recent_sessions", 63, "newest sessions: the holdout", at_least=5, whole=True)
RECENT_NAMES = Limit(
    "recent_names_fraction", 0.5, "names in them, of the usual number before", at_least=0, at_most=1
)


def _few_names_lately(judged: Judged) -> tuple[pl.DataFrame, int]:
    """Sessions of the end in which few names have a bar, against the median of all sessions before."""
    n_recent, limit = int(judged.limit(RECENT)), judged.limit(RECENT_NAMES)
    names = judged.once("names", _names)
    before, recent = names.head(max(names.height - n_recent, 0)), names.tail(n_recent)
    usual = before.filter(pl.col("have") > 0)["have"].median()
    if not isinstance(usual, float) or usual < FEWEST_NAMES:
        return _EMPTY, recent.height
    few = recent.with_columns(
        symbol=pl.lit(EVERY_NAME),
        observed=pl.col("have") / usual,
        limit=pl.lit(limit),
        usual=pl.lit(usual),
        n_recent=pl.lit(n_recent),
    ).filter((pl.col("observed") < limit) & (pl.col("have") > 0))
    return few, recent.height


register(
    BarRule(
        name="few_names_lately",
        judged_on="panel",
        rank=87,
        severity="WARN",
        description="One of the newest sessions has bars of few names, against the usual number before: what is "
        "held out and watched for drift stands on them.",
        measure=_few_names_lately,
        evidence="{have} names have a bar, {usual} is usual before the newest {n_recent} sessions",
        limits=(RECENT, RECENT_NAMES),
        may_be=("WARN", "ERROR"),
    )
)


EDGE = Limit("edge_sessions", 21, "sessions that a name may lack at an edge", at_least=0, whole=True)


def _edges(judged: Judged) -> tuple[pl.DataFrame, tuple[date, date] | None]:
    """First and last bar of each symbol, with how many sessions of the panel lie outside; the panel's own edges."""
    bars = pl.concat([judged.bars.select(KEY), judged.aside.select(KEY)])
    if bars.is_empty():
        return pl.DataFrame(), None
    spans = bars.group_by("symbol").agg(first=pl.col("session").min(), last=pl.col("session").max())
    panel: tuple[date, date] = spans.select(pl.col("first").min(), pl.col("last").max()).row(0)
    grid = sessions(judged.calendar, *panel)
    late = grid.search_sorted(spans["first"], side="left").cast(pl.Int64)
    early = grid.len() - grid.search_sorted(spans["last"], side="right").cast(pl.Int64)
    return spans.with_columns(late=late, early=early), panel


def _lacking(judged: Judged, spans: pl.DataFrame, count: str, bar: str, edge: date) -> pl.DataFrame:
    """Names whose first or last ``bar`` is more sessions than the limit away from the panel's ``edge``."""
    limit = int(judged.limit(EDGE))
    return spans.filter(pl.col(count) > limit).select(
        "symbol", count, session=bar, observed=count, limit=pl.lit(limit), panel=pl.lit(edge)
    )


def _late_starts(judged: Judged) -> tuple[pl.DataFrame, int]:
    spans, panel = judged.once("edges", _edges)
    if panel is None:
        return _EMPTY, 0
    return _lacking(judged, spans, "late", "first", panel[0]), spans.height


def _early_ends(judged: Judged) -> tuple[pl.DataFrame, int]:
    spans, panel = judged.once("edges", _edges)
    if panel is None:
        return _EMPTY, 0
    if LISTED_UNTIL in judged.bars.columns:  # its listing says that it ended
        spans = spans.join(judged.bars.drop_nulls(LISTED_UNTIL), on="symbol", how="anti")
    return _lacking(judged, spans, "early", "last", panel[1]), spans.height


def _panel_edges(judged: Judged) -> tuple[pl.DataFrame, int]:
    """The panel's own first and last session against the dates that the universe asks for."""
    _, panel = judged.once("edges", _edges)
    if panel is None or judged.asked is None:
        return _EMPTY, 0
    limit = int(judged.limit(EDGE))
    (first, last), (start, end) = panel, judged.asked
    outside = [
        (EVERY_NAME, first, sessions(judged.calendar, min(start, first), first).len() - 1, "start", start),
        (EVERY_NAME, last, sessions(judged.calendar, last, max(last, end)).len() - 1, "end", end),
    ]
    found = pl.DataFrame(
        outside,
        schema={
            "symbol": pl.String, "session": pl.Date, "observed": pl.Int64, "edge": pl.String, "asked": pl.Date,
        },
        orient="row",
    )  # fmt: skip
    verb = pl.when(pl.col("edge") == "start").then(pl.lit("begins")).otherwise(pl.lit("ends"))
    told = found.with_columns(limit=pl.lit(limit), verb=verb, bar=sentence("{}", "session"))
    return told.filter(pl.col("observed") > limit), 2


register(
    BarRule(
        name="late_starts",
        judged_on="panel",
        rank=91,
        severity="WARN",
        description="A name's first bar comes more than so many sessions after the panel's (observed: sessions).",
        measure=_late_starts,
        evidence="its first bar is {late} sessions after the panel begins on {panel}: listed later, or its history "
        "was cut off",
        limits=(EDGE,),
        may_be=("WARN", "ERROR"),
        acceptable=True,
    )
)
register(
    BarRule(
        name="early_ends",
        judged_on="panel",
        rank=92,
        severity="WARN",
        description="A name's last bar comes more than so many sessions before the panel's (observed: sessions).",
        measure=_early_ends,
        evidence="its last bar is {early} sessions before the panel ends on {panel}: it ended, or is not updated",
        limits=(EDGE,),
        may_be=("WARN", "ERROR"),
        acceptable=True,
    )
)
register(
    BarRule(
        name="panel_edges",
        judged_on="panel",
        rank=93,
        severity="WARN",
        description="The panel begins so many sessions after the universe's `start:`, or ends before its `end:` "
        "(observed: sessions).",
        measure=_panel_edges,
        evidence="the panel {verb} on {bar}, {observed} sessions off `{edge}: {asked}`",
        limits=(EDGE,),
        may_be=("WARN", "ERROR"),
    )
)
