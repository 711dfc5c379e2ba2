"""Several sources of the same bars become one panel, with the reason for every value.

Raw is compared with raw. Each price and volume is one source's value, never an average. ``adj_close`` of a
symbol comes from one source, because two downloads of different dates have adjusted by different actions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import polars as pl

from quant_assets.common.errors import BarContractError
from quant_assets.common.settings import UniverseConfig
from quant_assets.market.parsing import PRICES, RAW_SCHEMA
from quant_assets.market.rules.catalogue.single_bars import OHLC_TOLERANCE

LABELLED_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {**RAW_SCHEMA, "source": pl.String}
FIELDS = (*PRICES, "volume")
KEY = ("symbol", "session")

MIXED_REASON = "bar of one source: mixed prices violate ohlc"


@dataclass(frozen=True)
class Reconciliation:
    """One panel and where each of its values comes from.

    Attributes
    ----------
    bars : polars.DataFrame
        `RAW_SCHEMA`, sorted by symbol and session: every session that any source has, from the first session of
        the symbol's preferred source on.
    provenance : polars.DataFrame
        ``symbol``, ``session``, ``field``, ``winner`` (label), ``reason``, and one column ``value_LABEL`` for
        each source in order of preference, filled where the sources do not all say the same; sorted by symbol,
        session and field (in the order of the contract).
    left_out : polars.DataFrame
        Bars before the first session of a symbol's preferred source: ``symbol``, ``source``, ``sessions``,
        ``first``, ``last``. Empty with ``extend_history``.
    """

    bars: pl.DataFrame
    provenance: pl.DataFrame
    left_out: pl.DataFrame

    @property
    def reasons(self) -> pl.DataFrame:
        """How often each source won each field, and why: ``field``, ``winner``, ``reason``, ``n``."""
        return (
            self.provenance.group_by("field", "winner", "reason")
            .agg(n=pl.len())
            .sort("field", "n", "winner", "reason", descending=[False, True, False, False])
        )


def reconcile(raw: pl.DataFrame, universe: UniverseConfig) -> Reconciliation:
    """Choose one source's value for each symbol, session and field.

    Parameters
    ----------
    raw : polars.DataFrame
        `LABELLED_SCHEMA` in any order: the bars of each source, unadjusted.
    universe : UniverseConfig
        Order of preference, tolerances, and the tolerance of the OHLC rule.

    Returns
    -------
    Reconciliation

    Raises
    ------
    BarContractError
        When there is no ``source`` column, or it has labels that the universe does not know.

    Notes
    -----
    A source's prices of a session take part only if its own bar keeps low <= open, close <= high (unless no
    source's bar does). Of two sources the preferred one wins; of three or more, the most preferred of those that
    agree with a majority. When the four winners come from different sources and do not make a bar together, all
    four are taken from the source that won the close.
    """
    labels = labels_of(raw, universe)
    early = _before_preferred(raw, labels) & (not universe.reconciliation.extend_history)
    left_out = (
        raw.filter(early)
        .group_by("symbol", "source")
        .agg(sessions=pl.len(), first=pl.col("session").min(), last=pl.col("session").max())
        .sort("symbol", "source")
    )
    wide = widen(raw.filter(~early), labels)
    tolerance = OHLC_TOLERANCE.of(universe)
    wide = wide.with_columns(
        _violates_ohlc({f: pl.col(f"{f}|{label}") for f in PRICES}, tolerance).alias(f"bad|{label}")
        for label in labels
    )
    settings = universe.reconciliation
    price, volume = settings.price_tolerance_bps * 1e-4, settings.volume_tolerance_fraction
    preferred = {str(field): chosen for field, chosen in settings.prefer.items()}
    for name in FIELDS:
        order = _order(labels, preferred.get(name, ()))
        wide = _decide(wide, name, order, volume if name == "volume" else price)
    wide = _keep_bars_whole(wide, labels, tolerance)
    order = _order(labels, preferred.get("adj_close", ()))
    wide = attach_adj_close(wide, order, tolerance=price)
    bars = wide.select(*KEY, *(pl.col(name) for name in RAW_SCHEMA if name not in KEY))
    parts = [
        wide.select(
            *KEY,
            field=pl.lit(name),
            rank=pl.lit(rank),
            winner=f"{name}>winner",
            reason=f"{name}>reason",
            **{f"value_{label}": pl.when(_differs(name, labels)).then(f"{name}|{label}") for label in labels},
        )
        for rank, name in enumerate((*FIELDS, "adj_close"))
    ]
    provenance = pl.concat(parts).filter(pl.col("winner").is_not_null()).sort(*KEY, "rank").drop("rank")
    return Reconciliation(bars, provenance, left_out)


def widen(raw: pl.DataFrame, labels: Sequence[str]) -> pl.DataFrame:
    """One row for each symbol and session, one column ``field|label`` for each value, null where there is none."""
    keys = raw.select(KEY).unique().sort(KEY)
    for label in labels:
        mine = raw.filter(pl.col("source") == label).select(
            *KEY, *(pl.col(name).alias(f"{name}|{label}") for name in (*FIELDS, "adj_close"))
        )
        keys = keys.join(mine, on=KEY, how="left", maintain_order="left", validate="1:1")
    return keys


def near(a: pl.Expr, b: pl.Expr, tolerance: float) -> pl.Expr:
    """Whether two values differ by at most the given fraction of the smaller. Two zeros agree."""
    return (a - b).abs() <= tolerance * pl.min_horizontal(a, b)


def labels_of(raw: pl.DataFrame, universe: UniverseConfig) -> tuple[str, ...]:
    """Labels of the sources in a frame, in the universe's order of preference.

    Raises
    ------
    BarContractError
        When there is no ``source`` column, or it has labels that the universe does not know.
    """
    found = set(raw["source"].unique()) if "source" in raw.columns else None
    if found is None or not found <= set(universe.sources):
        raise BarContractError(
            f"raw bars of universe {universe.name}",
            expected=f"a column source with labels among {', '.join(universe.sources)}",
            found="no such column" if found is None else f"{', '.join(sorted(found))}",
            action="materialise raw_bars of every year again: its sources have changed since",
        )
    return tuple(label for label in universe.sources if label in found)


def _before_preferred(raw: pl.DataFrame, labels: Sequence[str]) -> pl.Series:
    """Rows before the first session of the most preferred source that has the symbol."""
    rank = pl.col("source").replace_strict(list(labels), range(len(labels)), return_dtype=pl.Int64)
    mine = rank == rank.min().over("symbol")
    first = pl.when(mine).then("session").min().over("symbol")
    return raw.select(pl.col("session") < first).to_series()


def _order(labels: Sequence[str], preferred: Sequence[str]) -> tuple[str, ...]:
    first = [label for label in preferred if label in labels]
    return (*first, *(label for label in labels if label not in first))


def _violates_ohlc(bar: dict[str, pl.Expr], tolerance: float) -> pl.Expr:
    top, bottom = pl.max_horizontal(bar["open"], bar["close"]), pl.min_horizontal(bar["open"], bar["close"])
    broken = (bar["high"] < top * (1 - tolerance)) | (bar["low"] > bottom * (1 + tolerance))
    return (broken | (bar["high"] < bar["low"])).fill_null(value=False)


def _differs(name: str, labels: Sequence[str]) -> pl.Expr:
    values = [pl.col(f"{name}|{label}") for label in labels]
    return (pl.max_horizontal(values) != pl.min_horizontal(values)).fill_null(value=False)


def _first_where(conditions: dict[str, pl.Expr]) -> pl.Expr:
    return pl.coalesce(pl.when(holds).then(pl.lit(label)) for label, holds in conditions.items())


def _pick(name: str, chosen: pl.Expr, labels: Sequence[str]) -> pl.Expr:
    return pl.coalesce(pl.when(chosen == label).then(f"{name}|{label}") for label in labels)


def _count(conditions: Sequence[pl.Expr]) -> pl.Expr:
    return reduce(lambda a, b: a + b, [condition.cast(pl.Int32) for condition in conditions])


def _decide(wide: pl.DataFrame, name: str, order: Sequence[str], tolerance: float) -> pl.DataFrame:
    """Append the field's value, ``>winner`` and ``>reason``."""
    present = {label: pl.col(f"{name}|{label}").is_not_null() for label in order}
    sound = {
        label: present[label] & ~pl.col(f"bad|{label}") if name != "volume" else present[label]
        for label in order
    }
    any_sound = pl.any_horizontal(*sound.values())
    eligible = {label: pl.when(any_sound).then(sound[label]).otherwise(present[label]) for label in order}
    wide = wide.with_columns(expression.alias(f"in|{label}") for label, expression in eligible.items())
    takes_part = {label: pl.col(f"in|{label}") for label in order}
    votes = {
        a: _count(
            [
                takes_part[a]
                & takes_part[b]
                & near(pl.col(f"{name}|{a}"), pl.col(f"{name}|{b}"), tolerance).fill_null(value=False)
                for b in order
            ]
        )
        for a in order
    }
    wide = wide.with_columns(
        *(count.alias(f"votes|{label}") for label, count in votes.items()),
        n=_count(list(takes_part.values())),
        n_present=_count(list(present.values())),
    )
    n = pl.col("n")
    majority = {label: (n >= 3) & (2 * pl.col(f"votes|{label}") > n) for label in order}
    wide = wide.with_columns(
        foremost=_first_where(present), preferred=_first_where(takes_part), major=_first_where(majority)
    ).with_columns(winner=pl.coalesce("major", "preferred"))
    agreeing = pl.coalesce(pl.when(pl.col("winner") == label).then(f"votes|{label}") for label in order)
    is_preferred = pl.col("winner") == pl.col("preferred")
    reason = (
        pl.when(pl.col("n_present") == 1)
        .then(pl.lit("only source"))
        .when(~any_sound)
        .then(pl.lit("every source violates ohlc"))
        .when(is_preferred & (pl.col("foremost") != pl.col("preferred")))
        .then(pl.lit("preferred source violates ohlc"))
        .when(n == 1)
        .then(pl.lit("other sources violate ohlc"))
        .when(is_preferred & (agreeing == n))
        .then(pl.lit("agrees"))
        .when(pl.col("major").is_not_null())
        .then(pl.format("majority of {}", n))
        .otherwise(pl.lit("preferred"))
    )
    decided = wide.with_columns(
        _pick(name, pl.col("winner"), order).alias(name),
        pl.col("winner").alias(f"{name}>winner"),
        reason.alias(f"{name}>reason"),
    )
    scratch = [f"{kind}|{label}" for kind in ("in", "votes") for label in order]
    return decided.drop(*scratch, "n", "n_present", "foremost", "preferred", "major", "winner")


def _keep_bars_whole(wide: pl.DataFrame, labels: Sequence[str], tolerance: float) -> pl.DataFrame:
    """Where winners of different sources do not make a bar, take all four prices from the close's winner."""
    winner = pl.col("close>winner")
    mixed = pl.any_horizontal(pl.col(f"{name}>winner") != winner for name in PRICES)
    broken = mixed & _violates_ohlc({name: pl.col(name) for name in PRICES}, tolerance)
    wide = wide.with_columns(broken=broken, whole=winner)
    return wide.with_columns(
        *(
            pl.when("broken").then(_pick(name, pl.col("whole"), labels)).otherwise(name).alias(name)
            for name in PRICES
        ),
        *(
            pl.when("broken").then("whole").otherwise(f"{name}>winner").alias(f"{name}>winner")
            for name in PRICES
        ),
        *(
            pl.when("broken").then(pl.lit(MIXED_REASON)).otherwise(f"{name}>reason").alias(f"{name}>reason")
            for name in PRICES
        ),
    ).drop("broken", "whole")


# ---------------------------------------------------------------------------- the adjusted close of the panel


# A vendor writes at most this many decimals; see `quant_assets.market.actions`, which reads steps of the ratio
# adj_close / close against the rounding that these decimals imply.
MAX_DECIMALS = 8
# A source whose close was overruled for longer than a week is on another share basis, not misprinted: its own
# adj_close then stands.
CARRIED_SESSIONS = 5

AS_GIVEN = "one vintage"
CARRIED = "one vintage: factor of the session before, on the winning close"


def attach_adj_close(wide: pl.DataFrame, order: Sequence[str], *, tolerance: float) -> pl.DataFrame:
    """Append ``adj_close``, ``adj_close>winner`` and ``adj_close>reason``.

    Parameters
    ----------
    wide : polars.DataFrame
        Sorted by symbol and session, with ``close``, ``close|label`` and ``adj_close|label``.
    order : sequence of str
        Labels in order of preference for this field.
    tolerance : float
        Fraction within which a source's close agrees with the winning one.

    Notes
    -----
    For each symbol the first source that has an adjusted close from the first to the last session is taken, else
    the first that has any. Its value stands as given, except where its close is missing, or was overruled for at
    most `CARRIED_SESSIONS` sessions: there the factor adj_close / close of the nearest earlier agreeing session
    (the nearest later one before the first) multiplies the winning close, rounded as the source rounds. Without
    that, each such session would look like a distribution and its reversal.
    """
    chosen = _chosen_source(wide, order)
    wide = wide.join(chosen, on="symbol", how="left", maintain_order="left")

    def of_source(field: str) -> pl.Expr:
        return pl.coalesce(
            pl.when(pl.col("adj_close>winner") == label).then(f"{field}|{label}") for label in order
        )

    wide = wide.with_columns(own=of_source("adj_close"), own_close=of_source("close"))
    agrees = ((pl.col("own_close") - pl.col("close")).abs() <= tolerance * pl.col("close")) & pl.col(
        "own"
    ).is_not_null()
    wide = wide.with_columns(
        agrees=agrees.fill_null(value=False),
        factor=pl.when(agrees).then(pl.col("own") / pl.col("own_close")),
        places=_decimals(pl.col("own")).over("symbol"),
    )
    near_factor = pl.col("factor").forward_fill(limit=CARRIED_SESSIONS).over("symbol")
    any_factor = pl.coalesce(
        pl.col("factor").forward_fill().over("symbol"), pl.col("factor").backward_fill().over("symbol")
    )
    missing = pl.col("own").is_null()
    exact = ~missing & (pl.col("own_close") == pl.col("close"))
    factor = pl.when(missing).then(any_factor).when(pl.col("agrees")).then("factor").otherwise(near_factor)
    wide = wide.with_columns(scale=pl.when(~exact).then(factor))
    scaled = pl.coalesce(
        pl.when(pl.col("places") == n).then((pl.col("close") * pl.col("scale")).round(n))
        for n in range(MAX_DECIMALS + 1)
    )
    wide = wide.with_columns(
        pl.coalesce(scaled, "own").alias("adj_close"),
        pl.col("scale").is_null().alias("as_given"),
    )
    winner = pl.when(pl.col("adj_close").is_not_null()).then("adj_close>winner")
    reason = pl.when("as_given").then(pl.lit(AS_GIVEN)).otherwise(pl.lit(CARRIED))
    return wide.with_columns(
        winner.alias("adj_close>winner"),
        pl.when(winner.is_not_null()).then(reason).alias("adj_close>reason"),
    ).drop("own", "own_close", "agrees", "factor", "places", "scale", "as_given")


def _chosen_source(wide: pl.DataFrame, order: Sequence[str]) -> pl.DataFrame:
    """``symbol`` and ``adj_close>winner`` (null where no source has an adjusted close)."""
    has = {label: pl.col(f"adj_close|{label}").is_not_null() for label in order}
    by_symbol = wide.group_by("symbol").agg(
        *(held.any().alias(f"any|{label}") for label, held in has.items()),
        *((held.first() & held.last()).alias(f"all|{label}") for label, held in has.items()),
    )
    chosen = pl.coalesce(
        *(pl.when(f"all|{label}").then(pl.lit(label)) for label in order),
        *(pl.when(f"any|{label}").then(pl.lit(label)) for label in order),
    )
    return by_symbol.select("symbol", chosen.alias("adj_close>winner"))


def _decimals(values: pl.Expr) -> pl.Expr:
    """The fewest decimals that write every value."""
    exact = [((values.round(n) - values).abs() <= 1e-9 * values).all() for n in range(MAX_DECIMALS)]
    return pl.coalesce(*(pl.when(fits).then(pl.lit(n)) for n, fits in enumerate(exact)), pl.lit(MAX_DECIMALS))
