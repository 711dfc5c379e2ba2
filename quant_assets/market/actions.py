"""Corporate actions, derived from how ``adj_close / close`` moves, and backward adjustment by them.

The ratio of adjusted to raw close is a step function of time: it is flat until an ex-date and jumps on it. Where it
steps, `quant_assets.market.action_steps` says; what a step is read as, `quant_assets.market.action_readings`. What a
person declares overrides both.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import polars as pl

from quant_assets.common.store import Table
from quant_assets.market.action_readings import read_step
from quant_assets.market.action_steps import steps_of
from quant_assets.market.calendar import with_close_times
from quant_assets.market.declared_actions import DECLARED_SCHEMA, override

ACTIONS_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "symbol": pl.String,
    "session": pl.Date,
    "kind": pl.String,
    "ratio": pl.Float64,
    "price_factor": pl.Float64,
    "amount": pl.Float64,
}
DOUBTS_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "symbol": pl.String,
    "session": pl.Date,
    "kind": pl.String,
    "evidence": pl.String,
    "candidates": pl.String,
    "accept": pl.String,
}
# Kinds that leave no reading: the symbol's prices or adjusted closes are wrong there.
WITHOUT_A_READING = ("contradiction", "undone_split")
METADATA_KEY = "doubts"
UNDONE_WITHIN_DAYS = 14


@dataclass(frozen=True)
class CorporateActions:
    """Actions in force, and what is not certain about them.

    Attributes
    ----------
    actions : polars.DataFrame
        One row per action, sorted by symbol and session (a split and a dividend may share a session): ``kind``
        "split", "dividend" or "spin_off" (declared ones only); ``ratio`` new shares per old (splits only, 2.0 for
        2:1, 0.1 for 1:10); ``price_factor`` multiplies every price before ``session``; ``amount`` per share in the
        money of the bars (not of splits), an estimate where inferred: previous close times (1 - price_factor), exact
        for vendors that adjust by the close before the ex-date and off by that session's return for those that use
        the close after.
    doubts : polars.DataFrame
        Of `DOUBTS_SCHEMA`, by symbol and session.
    declared : polars.DataFrame
        What a person declared, with ``bar`` and ``replaced`` (`quant_assets.market.declared_actions.override`).
    """

    actions: pl.DataFrame
    doubts: pl.DataFrame
    declared: pl.DataFrame


def read_actions(raw: pl.DataFrame, declared: pl.DataFrame | None = None) -> CorporateActions:
    """Infer splits and distributions of raw bars from their adjusted close, and put declared actions over them.

    Parameters
    ----------
    raw : polars.DataFrame
        Validated raw bars. Symbols without ``adj_close`` have no inferred actions.
    declared : polars.DataFrame, optional
        Of `quant_assets.market.declared_actions.declared_actions`.

    Returns
    -------
    CorporateActions

    Raises
    ------
    ConfigurationError
        When a declared amount is not below the close before it.

    Notes
    -----
    A step counts when it exceeds the larger of 1e-5 and the rounding noise of the two sessions: half a unit of
    the last decimal of each close over that close (none for a raw close that is an exact quote), plus eight
    float32 roundings. A dividend smaller than its noise (say 0.3 % where adj_close is quoted as 1.23) cannot be told
    from rounding and is not reported; a distribution of exactly half or a third of the price is taken for a 2:1 or
    3:2 split, and a bonus issue of less than 2 % for a dividend.
    """
    rows: list[tuple[object, ...]] = []
    doubtful: list[tuple[object, ...]] = []
    for step in steps_of(raw):
        reading = read_step(step)
        rows += [
            (step.symbol, step.session, act.kind, act.ratio, act.price_factor, act.amount)
            for act in reading.actions
        ]
        if reading.doubt:
            said = (reading.doubt, reading.evidence, reading.candidates)
            doubtful.append(doubt_row(step.symbol, step.session, *said))
    inferred = pl.DataFrame(rows, schema=ACTIONS_SCHEMA, orient="row").sort(
        "symbol", "session", maintain_order=True
    )
    actions, undone = without_undone_splits(inferred)
    doubts = pl.concat([pl.DataFrame(doubtful, schema=DOUBTS_SCHEMA, orient="row"), undone]).sort(
        "symbol", "session", maintain_order=True
    )
    if declared is None or declared.is_empty():
        none = pl.DataFrame(schema={**DECLARED_SCHEMA, "bar": pl.Date, "replaced": pl.String})
        return CorporateActions(actions, doubts, none)
    return CorporateActions(*override(actions, doubts, declared, raw))


def derive_corporate_actions(raw: pl.DataFrame) -> pl.DataFrame:
    """The actions of `read_actions` alone, for who looks at the doubts elsewhere."""
    return read_actions(raw).actions


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


def doubt_row(
    symbol: str, session: date, kind: str, evidence: str, candidates: tuple[tuple[str, str], ...]
) -> tuple[str, date, str, str, str, str]:
    """A row of `DOUBTS_SCHEMA`; each candidate is what it is called and what `actions:` says for it."""
    lines = [
        f'- {{symbol: "{symbol}", session: {session}, {fields}, reason: "accepted: {said}"}}'
        for said, fields in candidates
    ]
    return (
        symbol,
        session,
        kind,
        evidence,
        " or ".join(said for said, _ in candidates),
        "\n".join(lines),
    )


def without_undone_splits(actions: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Actions without the splits that their inverses take back within days, and a doubt for each such pair.

    Prices slipped there (a decimal point, a unit) while the adjusted close did not: both steps are left out, which
    changes nothing outside of these days.
    """
    splits = actions.filter(pl.col("kind") == "split").with_columns(
        back=pl.col("session").shift(-1).over("symbol"),
        product=(pl.col("ratio") * pl.col("ratio").shift(-1)).over("symbol"),
    )
    undone = splits.filter(
        ((pl.col("product") - 1).abs() < 1e-9)
        & (pl.col("back") - pl.col("session") <= pl.duration(days=UNDONE_WITHIN_DAYS))
    )
    rows = [
        doubt_row(
            symbol,
            session,
            "undone_split",
            f"prices x {1 / ratio:g}, back on {back}, while adj_close stayed: a decimal point or unit slipped",
            ((f"split {ratio:g}:1", f"kind: split, ratio: {ratio!r}"), ("no action", "kind: none")),
        )
        for symbol, session, ratio, back in undone.select("symbol", "session", "ratio", "back").iter_rows()
    ]
    doubts = pl.DataFrame(rows, schema=DOUBTS_SCHEMA, orient="row")
    if undone.is_empty():
        return actions, doubts
    days = pl.concat(
        [undone.select("symbol", "session"), undone.select("symbol", session=pl.col("back"))]
    ).with_columns(kind=pl.lit("split"))
    return actions.join(days, on=["symbol", "session", "kind"], how="anti", maintain_order="left"), doubts


def metadata_of(doubts: pl.DataFrame) -> Mapping[str, str]:
    """What a table of actions carries of its doubts: nothing where there are none."""
    if doubts.is_empty():
        return {}
    rows = doubts.with_columns(pl.col("session").cast(pl.String)).rows()
    return {METADATA_KEY: json.dumps([list(row) for row in rows])}


def doubts_of(table: Table) -> pl.DataFrame:
    """Doubts that a table of actions carries.

    Returns
    -------
    polars.DataFrame
        Columns of `DOUBTS_SCHEMA`, by symbol and session: ``kind`` "ambiguous" (read in the way that leaves volume
        alone; the universe goes on), "contradiction" or "undone_split" (no action is applied there); ``accept`` has a
        line for `actions:` for each of the ``candidates``.
    """
    rows = json.loads(table.metadata.get(METADATA_KEY, "[]"))
    text = pl.DataFrame(rows, schema=dict.fromkeys(DOUBTS_SCHEMA, pl.String), orient="row")
    return text.with_columns(pl.col("session").str.to_date())
