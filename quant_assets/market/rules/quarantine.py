"""Quarantine: suspicious raw bars are set aside with their evidence, never deleted and never repaired."""

from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from quant_assets.common.errors import BarContractError
from quant_assets.common.settings import UniverseConfig
from quant_assets.market.calendar import sessions
from quant_assets.market.rules.prepared_bars import prepared
from quant_assets.market.rules.quality_rules import (
    RAW_RULES,
    QualityFinding,
    accepted_frame,
    finding_of,
    raw_rules,
)
from quant_assets.market.rules.row_measures import ROW_MEASURES, off_calendar
from quant_assets.market.sources.parsing import sentence

NEEDED = ("symbol", "session", "open", "high", "low", "close", "volume")
REASONS: dict[str, pl.DataType | type[pl.DataType]] = {
    "rule": pl.String,
    "observed": pl.Float64,
    "limit": pl.Float64,
    "evidence": pl.String,
}
# A feed whose dates are moved by a day has a fifth of its bars on a weekend; single strangers are below this.
SHIFTED_FRACTION = 0.1
FITTING_FRACTION = 0.02

_RANK = {rule.name: rank for rank, rule in enumerate(RAW_RULES)}


@dataclass(frozen=True)
class Quarantine:
    """Raw bars parted in two, and why.

    ``kept`` and ``quarantined`` hold every row of the input once, bit for bit, in its order; ``quarantined``
    appends `REASONS`: the first rule it broke, what was observed, the limit, and a sentence (with the names of
    other rules that it broke). ``accepted`` are the rows among ``kept`` that a person let through, with the
    reason. ``findings`` has one entry per rule of `raw_rules`; a row that was taken counts under its first rule.
    """

    kept: pl.DataFrame
    quarantined: pl.DataFrame
    accepted: pl.DataFrame
    findings: tuple[QualityFinding, ...]


def quarantine(bars: pl.DataFrame, actions: pl.DataFrame, universe: UniverseConfig) -> Quarantine:
    """Part raw bars into those to go on with and those that look wrong.

    Parameters
    ----------
    bars : polars.DataFrame
        Validated raw bars (`quant_assets.market.sources.contract.RAW_SCHEMA`), any order.
    actions : polars.DataFrame
        Their corporate actions, as `quant_assets.market.actions.derive_corporate_actions` gives them.
    universe : UniverseConfig
        Calendar, limits, severities and accepted bars.

    Returns
    -------
    Quarantine
        A row goes when a rule of severity QUARANTINE finds it and it is not accepted for that rule. Rules of
        other severities take nothing out; their findings block (ERROR) or show (WARN).

    Raises
    ------
    BarContractError
        When a column of the contract is missing.
    CalendarError
        When the universe's calendar is unknown.
    """
    missing = [name for name in NEEDED if name not in bars.columns]
    if missing:
        raise BarContractError(
            f"bars of universe {universe.name}, column {', '.join(map(repr, missing))}",
            expected=f"columns {', '.join(NEEDED)}",
            found=f"columns {bars.columns}",
            action="give raw bars as the sources validate them",
        )
    rules = raw_rules(universe)
    ready = prepared(bars, actions)
    suspects = _suspects(ready, universe)
    accepted = accepted_frame(universe.quality.accepted, RAW_RULES)
    key = ["symbol", "session", "rule"]
    released = suspects.join(accepted, on=key, how="inner", maintain_order="left")
    unreleased = suspects.join(accepted, on=key, how="anti", maintain_order="left")
    taking = [rule.name for rule in rules if rule.severity == "QUARANTINE"]
    reasons = _one_reason_each(unreleased.filter(pl.col("rule").is_in(taking)))
    held = unreleased.join(reasons.select("row"), on="row", how="anti", maintain_order="left")
    numbered = bars.with_row_index("quarantine.row").with_columns(pl.col("quarantine.row").cast(pl.Int64))
    told = reasons.select(pl.col("row").alias("quarantine.row"), *REASONS)
    kept = numbered.join(told, on="quarantine.row", how="anti", maintain_order="left")
    out = numbered.join(told, on="quarantine.row", how="inner", maintain_order="left")
    summaries = {
        "shifted_sessions": _shifted(ready, universe),
        "quarantined_fraction": _fractions(ready, reasons, universe),
        "accepted_without_match": accepted.join(suspects, on=key, how="anti").with_columns(
            observed=0.0, limit=1.0
        ),
    }
    n_symbols = bars["symbol"].n_unique()
    counts = {
        "shifted_sessions": n_symbols,
        "quarantined_fraction": n_symbols,
        "accepted_without_match": accepted.height,
    }
    found = {rule.name: reasons if rule.name in taking else held for rule in rules}
    findings = tuple(
        finding_of(
            rule,
            summaries[rule.name]
            if rule.name in summaries
            else found[rule.name].filter(pl.col("rule") == rule.name),
            counts.get(rule.name, bars.height),
            bars.height,
        )
        for rule in rules
    )
    still_in = released.join(reasons.select("row"), on="row", how="anti", maintain_order="left")
    return Quarantine(
        kept.drop("quarantine.row"),
        out.drop("quarantine.row"),
        still_in.select("symbol", "session", *REASONS, "reason"),
        findings,
    )


def _suspects(ready: pl.DataFrame, universe: UniverseConfig) -> pl.DataFrame:
    """Every row that a rule finds, under every rule that finds it: row, symbol, session and `REASONS`."""
    schema: dict[str, pl.DataType | type[pl.DataType]] = {"row": pl.Int64, **REASONS}
    if ready.is_empty():
        found = pl.DataFrame(schema=schema)
    else:
        parts = [
            ROW_MEASURES[rule.name](ready, universe).with_columns(rule=pl.lit(rule.name)).select(*schema)
            for rule in RAW_RULES
        ]
        found = pl.concat(parts).select(pl.col(name).cast(dtype) for name, dtype in schema.items())
    return found.join(ready.select("row", "symbol", "session"), on="row", how="left").sort(
        "row", pl.col("rule").replace_strict(_RANK, return_dtype=pl.Int32)
    )


def _one_reason_each(suspects: pl.DataFrame) -> pl.DataFrame:
    """The first rule of every row, the others named in its evidence."""
    if suspects.is_empty():
        return suspects
    others = pl.col("rule").slice(1).str.join(", ")
    return (
        suspects.group_by("row", maintain_order=True)
        .agg(pl.col("symbol", "session", *REASONS).first(), others=others)
        .with_columns(
            evidence=pl.when(pl.col("others") == "")
            .then(pl.col("evidence"))
            .otherwise(sentence("{} (also: {})", "evidence", "others"))
        )
        .drop("others")
    )


def _fractions(ready: pl.DataFrame, reasons: pl.DataFrame, universe: UniverseConfig) -> pl.DataFrame:
    """Symbols of which too much was taken out, at the first session taken."""
    limit = universe.quality.max_quarantined_fraction
    totals = ready.group_by("symbol").agg(n_bars=pl.len())
    taken = ready.join(reasons.select("row"), on="row", how="semi")
    shares = taken.group_by("symbol").agg(n_taken=pl.len(), session=pl.col("session").min())
    return (
        shares.join(totals, on="symbol")
        .with_columns(observed=pl.col("n_taken") / pl.col("n_bars"), limit=pl.lit(limit))
        .filter(pl.col("observed") > limit)
    )


def _shifted(ready: pl.DataFrame, universe: UniverseConfig) -> pl.DataFrame:
    """Symbols with many bars off the calendar and hardly any when every date is moved by one day."""
    empty = pl.DataFrame(
        schema={"symbol": pl.String, "session": pl.Date, "observed": pl.Int32, "limit": pl.Int32}
    )
    if ready.is_empty():
        return empty
    totals = ready.group_by("symbol").agg(n_bars=pl.len(), session=pl.col("session").min())
    strangers = off_calendar(ready, universe).group_by("symbol").agg(n_off=pl.len())
    doubtful = totals.join(strangers, on="symbol").filter(
        pl.col("n_off") > SHIFTED_FRACTION * pl.col("n_bars")
    )
    if doubtful.is_empty():
        return empty
    rows = ready.join(doubtful, on="symbol", how="semi")
    first, last = rows.select(pl.col("session").min().alias("a"), pl.col("session").max().alias("b")).row(0)
    calendar = sessions(universe.calendar, first - timedelta(days=1), last + timedelta(days=1))
    found = [empty]
    for days in (1, -1):
        fits = (pl.col("session").dt.offset_by(f"{days}d")).is_in(calendar.implode())
        moved = rows.group_by("symbol").agg(fitting=fits.mean())
        fitting = doubtful.join(moved.filter(pl.col("fitting") >= 1 - FITTING_FRACTION), on="symbol")
        found.append(fitting.select("symbol", "session", observed=pl.lit(days), limit=pl.lit(0)))
    return pl.concat(found).unique("symbol", keep="first", maintain_order=True)
