"""Rules about a price that steps to another level overnight: by a split never re-based, another unit, or by news.

A split that was not re-based shows many things at once: the gap is a usual n:m within the noise of a night, the price
was at the old level and stays at the new one, and neither that day nor the days after it trade or range like days
with news. A crash that happens to end near an n:m brings several times the usual volume, and its range stays wide for
days. Only where every sign agrees is the name set aside; where one does not, it is shown.
"""

from fractions import Fraction

import polars as pl

from quant_assets.market.calendar import sessions
from quant_assets.market.parsing import sentence
from quant_assets.market.rules.bar_rule import (
    FEWEST_FOR_USUAL,
    KEY,
    USUAL_SESSIONS,
    BarRule,
    Judged,
    Limit,
    register,
)

# New shares per old of forward splits; reverse splits are their inverses. 5:4 and 4:3 are left out: a fall by a
# fifth or a quarter in a night is usual news, and an unadjusted 5:4 shows in no other way.
SPLIT_RATIOS = (
    1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 18.0, 20.0, 25.0,
    30.0, 35.0, 40.0, 45.0, 50.0, 60.0, 75.0, 80.0, 100.0, 120.0, 125.0, 150.0, 200.0, 250.0, 300.0, 400.0, 500.0,
)  # fmt: skip
UNITS = (10.0, 100.0, 1000.0)
LEVEL_SESSIONS = 5
LEVEL_SHARE = 0.3  # of the gap, in logarithms, that closes before and after may differ from their own level
# Over the median of the five sessions after, and of those over a fortnight later: news is spent in days, the volume
# after a split stays where it is.
MOST_SPIKE = 2.5
LATER = (11, 21)
# Times the usual range before: after a real crash the range stays several times that for days.
MOST_RANGE_AFTER = 2.0
# Times its usual overnight move that the rest of the panel moves on a day of news about the market.
MOST_MARKET = 4.0
FEWEST_OTHERS = 5
# Signs beside ratio and level that must be known and agree: bars without volume have three, of closes only fewer.
FEWEST_SIGNS = 3
# A sign that does not agree makes a step a possible split; two make it news.
MOST_AGAINST = 1

SPLIT_TOLERANCE = Limit("split_tolerance", 0.04, "of the overnight gap to n:m", above=0, at_most=0.1)
SPLIT_ACTIVITY = Limit("split_max_activity", 3.0, "volume and range over their usual", at_least=1)
SIGNS = {
    "volume": "the day's volume",
    "spike": "its volume against the days after",
    "fading": "their volume against two weeks later",
    "range": "the day's range",
    "range_after": "the range of the days after",
    "market": "the rest of the market",
    "before": "no bar in the session before",
}


def _usual(value: pl.Expr) -> pl.Expr:
    return value.rolling_median(USUAL_SESSIONS, min_samples=FEWEST_FOR_USUAL).shift().over("symbol")


def _much_later(value: pl.Expr) -> pl.Expr:
    """The median of the sessions 11 to 21 later; null where the feed ends before."""
    n = LATER[1] - LATER[0] + 1
    return value.reverse().rolling_median(n, min_samples=n).reverse().shift(-LATER[0]).over("symbol")


def _next(value: pl.Expr) -> pl.Expr:
    """The median of the next five sessions, this one not among them; of fewer at the end of the feed."""
    later = value.reverse().rolling_median(LEVEL_SESSIONS, min_samples=1).reverse()
    return later.shift(-1).over("symbol")


def _level_shifts(judged: Judged) -> pl.DataFrame:
    """Overnight steps of the level by a usual ratio; steps that known actions explain are gone from the bars.

    `SPLIT_TOLERANCE` is the relative distance of the gap to the ratio, `SPLIT_ACTIVITY` bounds the range, and the
    volume after allowing for the ratio, over their medians of the month before.

    Returns
    -------
    polars.DataFrame
        symbol, session, ``observed`` (open over the close before), ``limit`` (the ratio it is taken for, on the
        same scale), ``unit_change`` (the ratio is 10, 100 or 1000 and the volume did not follow it), ``certain``
        (every sign agrees); ``earlier`` (the close before), ``opened``, ``factor``, ``split`` (as in 2:1),
        ``agree`` and ``against`` (signs in words) for the evidence.
    """
    tolerance, most = judged.limit(SPLIT_TOLERANCE), judged.limit(SPLIT_ACTIVITY)
    close, volume = pl.col("close"), pl.col("volume")
    width = (pl.col("high") / pl.col("low")).log()
    # The median of this session and the next four; of fewer at the end of the feed.
    following = close.reverse().rolling_median(LEVEL_SESSIONS, min_samples=1).reverse().over("symbol")
    preceding = close.rolling_median(LEVEL_SESSIONS, min_samples=1).shift().over("symbol")
    gap = (pl.col("open") / close.shift()).over("symbol")
    before = pl.col("session").shift().over("symbol")
    gapped = judged.bars.with_columns(gap=gap, bar_before=before).with_columns(
        size=pl.max_horizontal(pl.col("gap"), 1 / pl.col("gap"))
    )
    wide = pl.col("size").is_finite() & (pl.col("size") > SPLIT_RATIOS[0] * (1 - tolerance))
    suspects = gapped.filter(wide)
    if suspects.is_empty():
        return _shaped(suspects.with_columns(ratio=pl.lit(1.0)), most)
    steps = (
        gapped.filter(pl.col("symbol").is_in(suspects["symbol"].unique().implode()))
        .with_columns(
            following=following,
            preceding=preceding,
            volume_after=_next(volume),
            volume_later=_much_later(volume),
            volume_before=_usual(volume),
            width=width,
            width_before=_usual(width),
            width_after=_next(width),
        )
        .filter(wide)
        .join(_market_moves(gapped, suspects), on="session", how="left", maintain_order="left")
    )
    steps = steps.with_columns(adjacent=_adjacent(steps, judged.calendar))
    usual_ratios = sorted({*SPLIT_RATIOS, *UNITS})
    shares = [Fraction(ratio).as_integer_ratio() for ratio in usual_ratios]
    ratios = pl.DataFrame(
        {"ratio": usual_ratios, "new": [new for new, _ in shares], "old": [old for _, old in shares]}
    )
    nearest = (
        steps.join(ratios, how="cross")
        .with_columns(distance=(pl.col("size") / pl.col("ratio") - 1).abs())
        .filter(pl.col("distance") <= tolerance)
        .sort("symbol", "session", "distance")
        .unique(["symbol", "session"], keep="first", maintain_order=True)
    )
    # On both sides: a leap of two sessions steps back to a level that stays, and is no split either way.
    drifts = (
        (pl.col("following") / pl.col("open")).log(),
        (pl.col("preceding") * pl.col("gap") / pl.col("open")).log(),
    )
    kept_level = pl.all_horizontal(drift.abs() <= LEVEL_SHARE * pl.col("ratio").log() for drift in drifts)
    return _shaped(nearest.filter(kept_level), most)


def _adjacent(steps: pl.DataFrame, calendar: str) -> pl.Series:
    """Whether no session of the calendar lies between a bar and the one before it."""
    if steps.is_empty():
        return pl.Series("adjacent", [], dtype=pl.Boolean)
    days = sessions(calendar, steps["bar_before"].min(), steps["session"].max())  # type: ignore[arg-type]
    return (days.search_sorted(steps["session"]) - days.search_sorted(steps["bar_before"])) <= 1


def _market_moves(gapped: pl.DataFrame, suspects: pl.DataFrame) -> pl.DataFrame:
    """Median absolute overnight move of the panel on each session with a suspect, over its median of all sessions."""
    moves = gapped.group_by("session").agg(
        moved=pl.col("gap").log().abs().median(), others=pl.col("gap").count() - 1
    )
    usual = moves["moved"].median()
    return (
        moves.join(suspects.select("session").unique(), on="session", how="semi")
        .filter(pl.col("others") >= FEWEST_OTHERS)
        .select("session", market=pl.col("moved") / usual)
    )


def _shaped(steps: pl.DataFrame, most: float) -> pl.DataFrame:
    """Steps that kept their level, with what each sign says of them."""
    if steps.is_empty():
        texts = dict.fromkeys(("split", "agree", "against"), pl.String)
        flags = dict.fromkeys(("unit_change", "certain"), pl.Boolean)
        numbers = dict.fromkeys(("observed", "limit", "earlier", "opened", "factor"), pl.Float64)
        schema = {"symbol": pl.String, "session": pl.Date, **numbers, **flags, **texts}
        return pl.DataFrame(schema=schema).with_columns(pl.col("symbol").cast(steps.schema["symbol"]))
    ratio, forward, volume = pl.col("ratio"), pl.col("gap") < 1, pl.col("volume")
    known = pl.col("volume_before") > 0
    # Shares are worth less after a forward split, so more of them trade; a re-based volume does not move.
    signs = {
        "volume": pl.when(known).then(
            volume / pl.col("volume_before") / pl.when(forward).then(ratio).otherwise(1.0) <= most
        ),
        "spike": pl.when(pl.col("volume_after") > 0).then(volume / pl.col("volume_after") <= MOST_SPIKE),
        "fading": pl.when(pl.col("volume_later") > 0).then(
            pl.col("volume_after") / pl.col("volume_later") <= MOST_SPIKE
        ),
        "range": pl.when(pl.col("width_before") > 0).then(pl.col("width") <= most * pl.col("width_before")),
        "range_after": pl.when(pl.col("width_before") > 0).then(
            pl.col("width_after") <= MOST_RANGE_AFTER * pl.col("width_before")
        ),
        "market": pl.col("market") <= MOST_MARKET,
        # That a session is there says nothing; that it is missing, that the signs may be of another day.
        "before": pl.when(~pl.col("adjacent")).then(pl.lit(value=False)),
    }
    signed = steps.with_columns(sign.alias(f"sign.{name}") for name, sign in signs.items())

    def in_words(*, agreeing: bool) -> pl.Expr:
        said = [pl.when(pl.col(f"sign.{n}") == pl.lit(value=agreeing)).then(pl.lit(SIGNS[n])) for n in SIGNS]
        return pl.concat_list(said).list.drop_nulls().list.join(", ").replace("", "none")

    every = [pl.col(f"sign.{name}") for name in SIGNS]
    against = pl.sum_horizontal((sign == pl.lit(value=False)).fill_null(value=False) for sign in every)
    agreed = pl.sum_horizontal(sign.fill_null(value=False) for sign in every)
    certain = (against == 0) & (agreed >= FEWEST_SIGNS)
    followed = (pl.col("volume_after") / pl.col("volume_before")).log() * pl.when(forward).then(1).otherwise(
        -1
    )
    unit_change = ratio.is_in(UNITS) & (followed < 0.5 * ratio.log())
    return (
        signed.with_columns(
            unit_change=unit_change.fill_null(value=False) | (ratio > max(SPLIT_RATIOS)),
            limit=pl.when(forward).then(1 / ratio).otherwise(ratio),
            before=pl.col("open") / pl.col("gap"),
            certain=certain,
            agree=in_words(agreeing=True),
            against=in_words(agreeing=False),
            n_against=against,
        )
        .filter(pl.col("n_against") <= MOST_AGAINST)
        .select(
            "symbol",
            "session",
            "limit",
            "unit_change",
            "certain",
            "agree",
            "against",
            observed=pl.col("gap"),
            earlier=pl.col("before").round_sig_figs(6),
            opened=pl.col("open").round_sig_figs(6),
            factor=pl.col("limit").round_sig_figs(6),
            split=pl.when(forward)
            .then(sentence("{}:{}", "new", "old"))
            .otherwise(sentence("{}:{}", "old", "new")),
        )
    )


def _split_never_rebased(judged: Judged) -> pl.DataFrame:
    return judged.once("level shifts", _level_shifts).filter(~pl.col("unit_change") & pl.col("certain"))


register(
    BarRule(
        name="split_never_rebased",
        judged_on="panel",
        rank=60,
        severity="SET_ASIDE",
        description="Overnight the price steps to an n:m of itself on usual trading and stays (observed: the gap).",
        measure=_split_never_rebased,
        evidence="the close before was {earlier}, the open is {opened} and the price stays: "
        "a split {split} never re-based",
        limits=(SPLIT_TOLERANCE, SPLIT_ACTIVITY),
        may_be=("SET_ASIDE", "ERROR", "WARN"),
        acceptable=True,
    )
)


def _price_unit_change(judged: Judged) -> pl.DataFrame:
    return judged.once("level shifts", _level_shifts).filter(pl.col("unit_change") & pl.col("certain"))


register(
    BarRule(
        name="price_unit_change",
        judged_on="panel",
        rank=70,
        severity="SET_ASIDE",
        description="Overnight the price steps by 10, 100 or 1000 and stays, the volume does not "
        "(observed: the gap).",
        measure=_price_unit_change,
        evidence="the close before was {earlier}, the open is {opened} and the price stays: another unit, x {factor}",
        limits=(SPLIT_TOLERANCE, SPLIT_ACTIVITY),
        may_be=("SET_ASIDE", "ERROR", "WARN"),
        acceptable=True,
    )
)


def _possible_split(judged: Judged) -> pl.DataFrame:
    return judged.once("level shifts", _level_shifts).filter(~pl.col("certain"))


register(
    BarRule(
        name="possible_split",
        judged_on="panel",
        rank=115,
        severity="WARN",
        description="Overnight the price steps to an n:m of itself and stays, but not every sign is that of a split "
        "(observed: the gap).",
        measure=_possible_split,
        evidence="the close before was {earlier}, the open is {opened} and the price stays, as after a split {split}"
        "; usual: {agree}; not usual: {against}",
        limits=(SPLIT_TOLERANCE, SPLIT_ACTIVITY),
        may_be=("WARN", "ERROR"),
        acceptable=True,
    )
)


JUMP_FRACTION = Limit("jump_fraction", 0.4, "|close to close| that is a jump", above=0, at_most=1)


def _unexplained_jumps(judged: Judged) -> pl.DataFrame:
    # Bars are adjusted, so a split that is known leaves no jump; what still jumps, nothing explains. A jump that
    # looks like a split or a change of unit is named so instead.
    move = (pl.col("close") / pl.col("close").shift() - 1).over("symbol")
    limit = judged.limit(JUMP_FRACTION)
    jumps = judged.bars.with_columns(observed=move, limit=limit).filter(pl.col("observed").abs() >= limit)
    return jumps.join(judged.once("level shifts", _level_shifts), on=KEY, how="anti")


register(
    BarRule(
        name="unexplained_jumps",
        judged_on="panel",
        rank=120,
        severity="WARN",
        description="The close moves by such a fraction of the one before, adjusted for corporate actions.",
        measure=_unexplained_jumps,
        limits=(JUMP_FRACTION, SPLIT_TOLERANCE, SPLIT_ACTIVITY),
        may_be=("WARN", "ERROR"),
        acceptable=True,
    )
)
