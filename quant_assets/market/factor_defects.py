"""Spans of sessions over which one source's values are a constant multiple of another's.

Typical: volume counted on both sides of a trade (factor 2), a history never re-based after a split (factor 7
until the split), prices in pence (factor 100).
"""

import polars as pl

# Sessions on both sides whose median ratio is the level: long against misprints, short against the years
# between two splits.
LEVEL_SESSIONS = 21
# A span counts when this share of its ratios lies within the tolerance of the field around their median ...
SHARE_AT_FACTOR = 0.8
# ... where volume, which late prints move, is given at least this much.
VOLUME_SPREAD = 0.1
# Nearer to one than this is a difference of method (other closing prints), not of unit.
SMALLEST_FACTOR = 1.02
SMALLEST_VOLUME_FACTOR = 1.25

FACTORS_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "symbol": pl.String,
    "field": pl.String,
    "first": pl.String,
    "second": pl.String,
    "factor": pl.Float64,
    "first_session": pl.Date,
    "last_session": pl.Date,
    "sessions": pl.UInt32,
    "share_at_factor": pl.Float64,
    "finding": pl.String,
}


def constant_factors(both: pl.DataFrame, name: str, pair: tuple[str, str], tolerance: float) -> pl.DataFrame:
    """Find the spans of one field and pair of sources.

    Parameters
    ----------
    both : polars.DataFrame
        ``symbol``, ``session``, ``a``, ``b`` sorted by symbol and session: the values of both sources.
    name : str
        Field.
    pair : tuple of str
        Labels of ``a`` and ``b``.
    tolerance : float
        Fraction within which values of this field agree.

    Returns
    -------
    polars.DataFrame
        `FACTORS_SCHEMA`: ``factor`` is the median of a / b over the span, ``share_at_factor`` the share of its
        sessions within the spread around it. Spans of fewer than `LEVEL_SESSIONS` sessions are not reported.

    Notes
    -----
    The level is the running median of a / b; a span ends where the level moves by more than the spread from one
    session to the next.
    """
    volume = name == "volume"
    spread = max(tolerance, VOLUME_SPREAD) if volume else tolerance
    smallest = SMALLEST_VOLUME_FACTOR if volume else SMALLEST_FACTOR
    ratio = both.filter((pl.col("a") > 0) & (pl.col("b") > 0)).with_columns(ratio=pl.col("a") / pl.col("b"))
    level = pl.col("ratio").rolling_median(LEVEL_SESSIONS, center=True, min_samples=1).over("symbol")
    moved = (pl.col("level") / pl.col("level").shift(1) - 1).abs() > spread
    spans = (
        ratio.with_columns(level=level)
        .with_columns(span=moved.fill_null(value=False).cum_sum().over("symbol"))
        .with_columns(middle=pl.col("ratio").median().over("symbol", "span"))
        .group_by("symbol", "span")
        .agg(
            factor=pl.col("middle").first(),
            first_session=pl.col("session").min(),
            last_session=pl.col("session").max(),
            sessions=pl.len(),
            share_at_factor=((pl.col("ratio") / pl.col("middle") - 1).abs() <= spread).mean(),
        )
    )
    size = pl.max_horizontal("factor", 1 / pl.col("factor"))
    found = spans.filter(
        (pl.col("sessions") >= LEVEL_SESSIONS)
        & (pl.col("share_at_factor") >= SHARE_AT_FACTOR)
        & (size >= smallest)
    )
    first, second = pair
    sentence = pl.format(
        "{}: {} of {} is {} times that of {} on {} sessions from {} to {}",
        "symbol", pl.lit(name), pl.lit(first), pl.col("factor").round_sig_figs(4), pl.lit(second),
        "sessions", "first_session", "last_session",
    )  # fmt: skip
    return found.select(
        "symbol",
        field=pl.lit(name),
        first=pl.lit(first),
        second=pl.lit(second),
        factor="factor",
        first_session="first_session",
        last_session="last_session",
        sessions="sessions",
        share_at_factor="share_at_factor",
        finding=sentence,
    ).sort("symbol", "first_session")
