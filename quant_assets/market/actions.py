"""Corporate actions, derived from how ``adj_close / close`` moves, and backward adjustment by them.

The ratio of adjusted to raw close is a step function of time: it is flat until an ex-date and jumps on it. What
jumps to a small rational and takes the raw price with it is a split; any other rise is a distribution. Vendors
round both closes, so the ratio is also noisy: `derive_corporate_actions` computes from the rounding itself how
far it may wander, and reads nothing into moves below that.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import polars as pl

from quant_assets.common.errors import BarContractError
from quant_assets.market.calendar import with_close_times

ACTIONS_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "symbol": pl.String,
    "session": pl.Date,
    "kind": pl.String,
    "ratio": pl.Float64,
    "price_factor": pl.Float64,
    "amount": pl.Float64,
}

# A step of the ratio below a tenth of a basis point is no action. On 482,800 bars of 100 stocks the noise ends
# at 1.4e-6 and the smallest action is 3.6e-5.
SMALLEST_ACTION = 1e-5
# Vendors chain factors in 32-bit floats; eight roundings of half a unit in the last place each.
CHAINED_FLOAT32_ERROR = 8 * 2.0**-24
# Sessions on each side of a step whose median gives the level: fewer than a quarter of a year, so that a
# dividend too small to be seen cannot sit on both sides.
LEVEL_SESSIONS = 21
MAX_DECIMALS = 8
EXACT_QUOTE_WANDER = 0.1
LARGEST_SPLIT = 100
SMALLEST_SPLIT = 1.2
DIVIDEND_BESIDE_SPLIT = 1.02
UNDONE_WITHIN_DAYS = 14


@dataclass(frozen=True)
class _Step:
    """One step of the ratio: ``growth`` of adj_close / close, its rounding noise, and the raw price around it."""

    growth: float
    noise: float
    previous_close: float
    close: float

    @property
    def price_followed(self) -> bool:
        """Whether the raw close went at least half the way (in logarithms) that the step says."""
        move = self.close / self.previous_close
        return (move**2 * self.growth <= 1.0) if self.growth > 1 else (move**2 * self.growth >= 1.0)


def derive_corporate_actions(raw: pl.DataFrame) -> pl.DataFrame:
    """Derive splits and dividends of raw bars from their adjusted close.

    Parameters
    ----------
    raw : polars.DataFrame
        Validated raw bars. Symbols without ``adj_close`` have no actions.

    Returns
    -------
    polars.DataFrame
        One row per action, sorted by symbol and session (a split and a dividend may share a session): ``kind``
        "split" or "dividend"; ``ratio`` new shares per old (splits only, 2.0 for 2:1, 0.1 for 1:10);
        ``price_factor`` multiplies every price before ``session``; ``amount`` per share in the money of the bars
        (dividends only), an estimate: previous close times (1 - price_factor), exact for vendors that adjust by
        the close before the ex-date and off by that session's return for those that use the close after.

    Raises
    ------
    BarContractError
        When the ratio moves as no action can move it: it falls without a reverse split, or jumps by 20 % or
        more while the raw close stays. That is a file pasted together from downloads of different dates. Or
        when a split is undone within days: prices that slipped while the adjusted close did not.

    Notes
    -----
    A step counts when it exceeds the larger of 1e-5 and the rounding noise of the two sessions: half a unit of
    the last decimal of each close over that close (none for a raw close that is an exact quote), plus eight
    float32 roundings. A dividend smaller than its
    noise (say 0.3 % where adj_close is quoted as 1.23) cannot be told from rounding and is not reported; a
    distribution of exactly half or a third of the price would be taken for a 2:1 or 3:2 split.
    """
    steps = _steps(raw)
    rows: list[tuple[object, ...]] = []
    contradictions: list[str] = []
    for symbol, session, growth, noise, previous_close, close in steps.iter_rows():
        step = _Step(growth, noise, previous_close, close)
        split = _split(step)
        if split is None and (step.growth < 1 or (step.growth >= SMALLEST_SPLIT and not step.price_followed)):
            contradictions.append(
                f"{symbol} {session}: adj_close/close x {growth:.6g}, close {previous_close} to {close}"
            )
            continue
        ratio = 1.0 if split is None else float(split)
        rest = step.growth / ratio
        if split is not None:
            rows.append((symbol, session, "split", ratio, 1.0 / ratio, None))
        if split is None or rest > 1 + max(step.noise, SMALLEST_ACTION):
            rows.append(
                (symbol, session, "dividend", None, 1.0 / rest, previous_close / ratio * (1 - 1 / rest))
            )
    if contradictions:
        raise BarContractError(
            f"adj_close contradicts close at {len(contradictions)} sessions",
            expected="a ratio adj_close/close that moves only by splits (with the price) and by dividends (up)",
            found="; ".join(contradictions[:5]),
            action="download the whole history again at once; it was pasted together from downloads of different "
            "dates, or was not re-based after a split",
        )
    actions = pl.DataFrame(rows, schema=ACTIONS_SCHEMA, orient="row").sort(
        "symbol", "session", maintain_order=True
    )
    _refuse_undone_splits(actions)
    return actions


def adjust_bars(raw: pl.DataFrame, actions: pl.DataFrame, calendar: str) -> pl.DataFrame:
    """Adjust raw bars backward for every later action, and say when each bar became known.

    Parameters
    ----------
    raw : polars.DataFrame
        Validated raw bars.
    actions : polars.DataFrame
        As `derive_corporate_actions` gives them. An action on a day without a bar takes effect on the symbol's
        next bar; after its last bar it takes none.
    calendar : str
        Whose closing times are ``known_at``.

    Returns
    -------
    polars.DataFrame
        symbol, session, open, high, low, close, volume (adjusted), ``price_factor`` (adjusted over raw price,
        the product of the price factors of later actions), ``volume_factor`` (adjusted over raw volume, the
        product of later split ratios), ``known_at`` Datetime[us, UTC], sorted by symbol and session.

    Raises
    ------
    CalendarError
        When a bar lies on a day that is no session.
    """
    factored = with_factors(raw.drop("adj_close", strict=False), actions).sort("symbol", "session")
    adjusted = factored.select(
        "symbol",
        "session",
        *(pl.col(name) * pl.col("price_factor") for name in ("open", "high", "low", "close")),
        pl.col("volume") * pl.col("volume_factor"),
        "price_factor",
        "volume_factor",
    )
    return with_close_times(adjusted, calendar, name="known_at")


def _refuse_undone_splits(actions: pl.DataFrame) -> None:
    """Refuse a split that its inverse takes back within days: prices that slipped while adj_close did not."""
    splits = actions.filter(pl.col("kind") == "split").with_columns(
        back=pl.col("session").shift(-1).over("symbol"),
        product=(pl.col("ratio") * pl.col("ratio").shift(-1)).over("symbol"),
    )
    undone = splits.filter(
        ((pl.col("product") - 1).abs() < 1e-9)
        & (pl.col("back") - pl.col("session") <= pl.duration(days=UNDONE_WITHIN_DAYS))
    )
    if undone.height:
        shown = "; ".join(
            f"{symbol} {session}: prices x {factor:g}, back on {back}"
            for symbol, session, factor, back in undone.select(
                "symbol", "session", 1 / pl.col("ratio"), "back"
            )
            .head(5)
            .iter_rows()
        )
        raise BarContractError(
            f"adj_close contradicts close at {undone.height} sessions",
            expected="no split that its inverse undoes within days",
            found=shown,
            action="correct the prices of these sessions in the source (a decimal point or unit slipped), or "
            "download the history again",
        )


def with_factors(bars: pl.DataFrame, actions: pl.DataFrame) -> pl.DataFrame:
    """Append ``price_factor`` and ``volume_factor`` to bars (any order, kept), as `adjust_bars` defines them."""
    ordered = bars.with_row_index("with_factors.row").sort("symbol", "session")
    effective = (
        actions.sort("symbol", "session")
        .join_asof(
            ordered.select("symbol", "session", bar=pl.col("session")),
            on="session",
            by="symbol",
            strategy="forward",
            check_sortedness=False,
        )
        .filter(pl.col("bar").is_not_null())
        .group_by("symbol", "bar", maintain_order=True)
        .agg(
            pl.col("price_factor").product().alias("price_step"),
            pl.col("ratio").fill_null(1.0).product().alias("volume_step"),
        )
    )
    stepped = ordered.join(
        effective,
        left_on=["symbol", "session"],
        right_on=["symbol", "bar"],
        how="left",
        maintain_order="left",
    )
    # The factor of a bar is the product over *later* sessions: its own step acts on the bars before it.
    factored = stepped.with_columns(
        pl.col(step)
        .fill_null(1.0)
        .cum_prod(reverse=True)
        .shift(-1, fill_value=1.0)
        .over("symbol")
        .alias(factor)
        for step, factor in (("price_step", "price_factor"), ("volume_step", "volume_factor"))
    )
    return factored.sort("with_factors.row").drop("with_factors.row", "price_step", "volume_step")


def _steps(raw: pl.DataFrame) -> pl.DataFrame:
    """Steps of the ratio beyond its noise: symbol, session, growth, noise, previous close, close."""
    priced = raw.filter(pl.col("adj_close").is_not_null()).sort("symbol", "session")
    ratio = pl.col("adj_close") / pl.col("close")
    levels = (
        priced.with_columns(ratio=ratio)
        .with_columns(growth=(pl.col("ratio") / pl.col("ratio").shift()).over("symbol"))
        .with_columns(uncertainty=_uncertainty())
        .with_columns(
            noise=(pl.col("uncertainty") + pl.col("uncertainty").shift()).over("symbol"),
            previous_close=pl.col("close").shift().over("symbol"),
        )
        .with_columns(
            stepped=(pl.col("growth") - 1).abs() > pl.max_horizontal("noise", pl.lit(SMALLEST_ACTION)),
        )
        .with_columns(level=pl.col("stepped").fill_null(value=False).cum_sum().over("symbol"))
        .group_by("symbol", "level", maintain_order=True)
        .agg(
            pl.col("session", "noise", "previous_close", "close").first(),
            pl.col("ratio").head(LEVEL_SESSIONS).median().alias("head"),
            pl.col("ratio").tail(LEVEL_SESSIONS).median().alias("tail"),
        )
        .with_columns(growth=pl.col("head") / pl.col("tail").shift().over("symbol"))
    )
    return levels.filter(pl.col("level") > 0).select(
        "symbol", "session", "growth", "noise", "previous_close", "close"
    )


def _uncertainty() -> pl.Expr:
    """Relative error of one session's ratio that rounding can have made."""
    adjusted, close = _half_unit(pl.col("adj_close")), _half_unit(pl.col("close"))
    # A raw close is an exact quote, however few its decimals; a close that the vendor has re-based and rounded
    # is not. Rounding would move the ratio by 0.6 half units (median): far less than that means exact quotes.
    wander = ((pl.col("growth") - 1).abs() * pl.col("close")).median().over("symbol")
    rounded = pl.when(wander > EXACT_QUOTE_WANDER * close).then(close).otherwise(0.0)
    return adjusted / pl.col("adj_close") + rounded / pl.col("close") + CHAINED_FLOAT32_ERROR


def _half_unit(price: pl.Expr) -> pl.Expr:
    """Half of the last decimal in which a symbol's prices are written; 0 beyond eight decimals."""
    half = pl.lit(0.0)
    for decimals in range(MAX_DECIMALS, -1, -1):
        written_so = ((price - price.round(decimals)).abs() <= 1e-12 * price).all().over("symbol")
        half = pl.when(written_so).then(pl.lit(0.5 * 10.0**-decimals)).otherwise(half)
    return half


def _split(step: _Step) -> Fraction | None:
    """New shares per old when the step is a split, alone or together with a small dividend."""
    forward = step.growth > 1
    size = step.growth if forward else 1 / step.growth
    if not (SMALLEST_SPLIT * (1 - step.noise) <= size <= LARGEST_SPLIT + 1 and step.price_followed):
        return None
    for denominator in range(1, 6):
        numerator = round(size * denominator)
        # Halves, thirds, ... only for small splits (3:2, 5:4): nobody splits 37:5.
        if (denominator == 1 or size < 4) and abs(size * denominator / numerator - 1) <= step.noise:
            return Fraction(numerator, denominator) ** (1 if forward else -1)
    whole = math.floor(size) if forward else math.ceil(size)
    beside = size / whole if forward else whole / size
    if whole >= 2 and 1 < beside <= DIVIDEND_BESIDE_SPLIT:
        return Fraction(whole) ** (1 if forward else -1)
    return None
