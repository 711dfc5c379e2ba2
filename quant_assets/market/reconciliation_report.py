"""How far the sources of the same bars agree: differences by size, factors, shifted dates; and one picture."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.ticker import PercentFormatter

from quant_assets.common.pages import INK, MUTED, figure_png, png_data_uri, themed_figure
from quant_assets.common.settings import UniverseConfig
from quant_assets.market.reconciliation import FIELDS, KEY, labels_of, near, widen

# ----------------------------------------------------- spans of sessions over which one source's values are a

# Typical: volume counted on both sides of a trade (factor 2), a history never re-based after a split (factor 7
# until the split), prices in pence (factor 100).


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


# ------------------------------------------------------------- how far several sources of the same bars agree

# Pairs are compared in order of preference; a ratio is always the first source's value over the second's.


# Upper ends of the size classes, as fractions of the smaller value; above the last is one more class.
PRICE_CLASSES = {"to_1bp": 1e-4, "to_5bp": 5e-4, "to_50bp": 5e-3, "to_500bp": 5e-2}
VOLUME_CLASSES = {"to_0.1pct": 1e-3, "to_1pct": 1e-2, "to_5pct": 5e-2, "to_50pct": 0.5}
RETURN_DIFFERENCE_BPS = 50.0

Schema = dict[str, pl.DataType | type[pl.DataType]]

COVERAGE_SCHEMA: Schema = {
    "symbol": pl.String,
    "first": pl.String,
    "second": pl.String,
    "both": pl.UInt32,
    "only_first": pl.UInt32,
    "only_second": pl.UInt32,
    "last_first": pl.Date,
    "last_second": pl.Date,
    "returns_compared": pl.UInt32,
    "returns_over_50bp": pl.UInt32,
    "shift_sessions": pl.Int32,
}

# Half a unit in the last place of a float64 comparison: 100.05 against 100.00 is 5 bp, not more.
_EDGE = 1e-9


@dataclass(frozen=True)
class Disagreements:
    """How the sources of a universe differ; every frame is sorted and has one row for each pair of sources.

    Attributes
    ----------
    prices, volumes : polars.DataFrame
        ``symbol``, ``field``, ``first``, ``second``, ``compared`` (sessions that both have), ``within_tolerance``,
        one count for each size class, and ``median_ratio`` (first over second).
    coverage : polars.DataFrame
        ``symbol``, ``first``, ``second``, ``both``, ``only_first``, ``only_second`` (sessions), ``last_first``,
        ``last_second``, ``returns_compared``, ``returns_over_50bp`` (close-to-close returns over common sessions),
        ``shift_sessions`` (by how many sessions the second lies later, where its closes then agree and as dated
        they do not; else 0).
    factors : polars.DataFrame
        Constant-factor defects: `quant_assets.market.reconciliation_report.constant_factors`.
    """

    prices: pl.DataFrame
    volumes: pl.DataFrame
    coverage: pl.DataFrame
    factors: pl.DataFrame

    @property
    def findings(self) -> tuple[str, ...]:
        """The defects as sentences, without the counts of ordinary differences."""
        factors = self.factors["finding"].to_list()
        shifted = [
            f"{symbol}: {second} is dated {abs(by)} session {'later' if by > 0 else 'earlier'} than {first}"
            for symbol, first, second, by in self.coverage.filter(pl.col("shift_sessions") != 0)
            .select("symbol", "first", "second", "shift_sessions")
            .iter_rows()
        ]
        return (*factors, *shifted)


def compare_sources(raw: pl.DataFrame, universe: UniverseConfig) -> Disagreements:
    """Compare the raw bars of all sources, pair by pair.

    Parameters
    ----------
    raw : polars.DataFrame
        `quant_assets.market.reconciliation.LABELLED_SCHEMA`, in any order.
    universe : UniverseConfig
        Order of preference and tolerances.

    Returns
    -------
    Disagreements
        Symbols that only one source has take no part.

    Raises
    ------
    BarContractError
        As `quant_assets.market.reconciliation.reconcile`.
    """
    labels = labels_of(raw, universe)
    settings = universe.reconciliation
    price, volume = settings.price_tolerance_bps * 1e-4, settings.volume_tolerance_fraction
    wide = widen(raw, labels)
    prices: list[pl.DataFrame] = []
    volumes: list[pl.DataFrame] = []
    coverage: list[pl.DataFrame] = []
    factors: list[pl.DataFrame] = []
    for pair in combinations(labels, 2):
        for name, both in _compared(wide, pair):
            tolerance, classes = (volume, VOLUME_CLASSES) if name == "volume" else (price, PRICE_CLASSES)
            counted = _sizes(both, name, pair, tolerance, classes)
            (volumes if name == "volume" else prices).append(counted)
            factors.append(constant_factors(both, name, pair, tolerance))
        coverage.append(_coverage(wide, pair, price))
    by_size = ["symbol", "field", "first", "second"]
    # Each list begins with an empty frame: where one source is left, there is no pair, but there are columns.
    return Disagreements(
        prices=pl.concat([pl.DataFrame(schema=_sizes_schema(PRICE_CLASSES)), *prices]).sort(by_size),
        volumes=pl.concat([pl.DataFrame(schema=_sizes_schema(VOLUME_CLASSES)), *volumes]).sort(by_size),
        coverage=pl.concat([pl.DataFrame(schema=COVERAGE_SCHEMA), *coverage]).sort(
            "symbol", "first", "second"
        ),
        factors=pl.concat([pl.DataFrame(schema=FACTORS_SCHEMA), *factors]).sort([*by_size, "first_session"]),
    )


def size_classes(classes: dict[str, float]) -> tuple[str, ...]:
    """Names of the size classes, the open one last."""
    return (*classes, "over_" + list(classes)[-1].removeprefix("to_"))


def _sizes_schema(classes: dict[str, float]) -> Schema:
    counts = ("compared", "within_tolerance", *size_classes(classes))
    names = ("symbol", "field", "first", "second")
    return {**dict.fromkeys(names, pl.String), **dict.fromkeys(counts, pl.UInt32), "median_ratio": pl.Float64}


def _compared(wide: pl.DataFrame, pair: tuple[str, str]) -> Iterator[tuple[str, pl.DataFrame]]:
    """For each field, ``symbol``, ``session``, ``a``, ``b`` where both sources have a value."""
    for name in FIELDS:
        a, b = (pl.col(f"{name}|{label}") for label in pair)
        yield name, wide.select(*KEY, a=a, b=b).drop_nulls()


def _sizes(
    both: pl.DataFrame, name: str, pair: tuple[str, str], tolerance: float, classes: dict[str, float]
) -> pl.DataFrame:
    a, b = pl.col("a"), pl.col("b")
    # Zero against a volume is the largest difference there is; zero against zero is none.
    size = pl.when(a == b).then(0.0).otherwise((a - b).abs() / pl.min_horizontal(a, b)) - _EDGE
    counts, below = [], -1.0
    for label, limit in classes.items():
        counts.append(((size > below) & (size <= limit)).sum().alias(label))
        below = limit
    counts.append((size > below).sum().alias(size_classes(classes)[-1]))
    ratio = (a / b).filter(b > 0).median()
    counted = both.group_by("symbol").agg(
        pl.len().alias("compared"),
        near(a, b, tolerance).sum().alias("within_tolerance"),
        *counts,
        ratio.alias("median_ratio"),
    )
    first, second = pair
    named = counted.with_columns(field=pl.lit(name), first=pl.lit(first), second=pl.lit(second))
    return named.select(
        "symbol", "field", "first", "second", pl.exclude("symbol", "field", "first", "second")
    )


def _coverage(wide: pl.DataFrame, pair: tuple[str, str], tolerance: float) -> pl.DataFrame:
    first, second = pair
    a, b = pl.col(f"close|{first}"), pl.col(f"close|{second}")
    have_a, have_b = a.is_not_null(), b.is_not_null()
    counted = (
        wide.group_by("symbol")
        .agg(
            first=pl.lit(first),
            second=pl.lit(second),
            both=(have_a & have_b).sum(),
            only_first=(have_a & ~have_b).sum(),
            only_second=(have_b & ~have_a).sum(),
            last_first=pl.col("session").filter(have_a).max(),
            last_second=pl.col("session").filter(have_b).max(),
        )
        .filter(pl.col("last_first").is_not_null() & pl.col("last_second").is_not_null())
    )
    common = wide.select(*KEY, a=a, b=b).drop_nulls()
    returns = common.with_columns(
        apart=(pl.col("a") / pl.col("a").shift(1) - pl.col("b") / pl.col("b").shift(1)).abs().over("symbol")
    )
    moved = returns.group_by("symbol").agg(
        returns_compared=pl.col("apart").count(),
        returns_over_50bp=(pl.col("apart") > RETURN_DIFFERENCE_BPS * 1e-4 + _EDGE).sum(),
        shift_sessions=_shift(tolerance),
    )
    return counted.join(moved, on="symbol", how="left", maintain_order="left", validate="1:1").with_columns(
        pl.col("returns_compared", "returns_over_50bp", "shift_sessions").fill_null(0)
    )


def _shift(tolerance: float) -> pl.Expr:
    """The lag of one session at which at least 80 % of closes agree, and twice as many as undated."""
    share = {
        by: near(pl.col("a"), pl.col("b").shift(-by), tolerance).mean().fill_null(0.0) for by in (-1, 0, 1)
    }
    found = pl.lit(0, dtype=pl.Int32)
    for by in (-1, 1):
        # Quiet prices agree with their neighbours as well: only a clear gain is a shift.
        clear = (share[by] >= 0.8) & (share[by] >= 2 * share[0])
        found = pl.when(clear).then(pl.lit(by, dtype=pl.Int32)).otherwise(found)
    return found


# ------------------------------------------------------------------------------------------------ one picture


MAX_ROWS = 20
_WORDS = ("≤ 1 bp", "1 to 5 bp", "5 to 50 bp", "50 to 500 bp", "> 500 bp")


def reconciliation_figure(disagreements: Disagreements) -> str:
    """Closes by size of difference, one bar for each symbol and pair of sources, as a PNG ``data:`` address.

    The pairs that differ most are shown, at most `MAX_ROWS`; beside each bar stand the median ratio of volumes and
    the number of daily returns that differ by more than 50 bp.
    """
    pair = ["symbol", "first", "second"]
    classes = size_classes(PRICE_CLASSES)
    closes = disagreements.prices.filter(pl.col("field") == "close")
    volumes = disagreements.volumes.select(*pair, volume_ratio="median_ratio")
    rows = (
        closes.join(volumes, on=pair, how="left", maintain_order="left")
        .join(
            disagreements.coverage.select(*pair, "returns_over_50bp"),
            on=pair,
            how="left",
            maintain_order="left",
        )
        .with_columns(apart=1 - pl.col("within_tolerance") / pl.col("compared"))
        .sort("apart", *pair, descending=[True, False, False, False])
        .head(MAX_ROWS)
    )
    colours = mpl.colormaps["YlOrRd"](np.linspace(0.12, 0.92, len(classes)))
    colours[0] = (0.83, 0.87, 0.92, 1.0)  # agreement is background, not a finding
    with themed_figure(7.6, 1.3 + 0.34 * max(rows.height, 1)) as (figure, axes):
        several = rows.select(pl.struct("first", "second").n_unique()).item() > 1 if rows.height else False
        left = np.zeros(rows.height)
        places = np.arange(rows.height)[::-1]
        for name, words, colour in zip(classes, _WORDS, colours, strict=True):
            share = (rows[name] / rows["compared"]).to_numpy()
            axes.barh(places, share, left=left, height=0.66, color=colour, edgecolor="white", label=words)
            left = left + share
        names = [
            f"{symbol}  {first} / {second}" if several else symbol
            for symbol, first, second in rows.select(pair).iter_rows()
        ]
        axes.set_yticks(places, [name.replace("$", r"\$") for name in names], color=INK)
        for place, ratio, returns in zip(
            places, rows["volume_ratio"], rows["returns_over_50bp"], strict=True
        ):
            volume = "no volume" if ratio is None else f"volume × {ratio:.3g}"
            axes.text(
                1.015,
                place,
                f"{volume}, {returns} returns > 50 bp apart",
                va="center",
                fontsize=9,
                color=MUTED,
            )
        axes.set_xlim(0, 1)
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        pairs = "" if several or not rows.height else f", {rows['first'][0]} against {rows['second'][0]}"
        axes.set_xlabel(f"share of closes by size of difference{pairs}")
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=5, columnspacing=1.2, handlelength=1.2
        )
        return png_data_uri(figure_png(figure))
