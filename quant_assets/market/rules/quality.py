"""Bars judged by the rules: suspicious raw rows are set aside, and what is kept is checked as a whole.

Before any of this runs, the row contract (`quant_assets.market.sources.contract`) has set aside rows that cannot be
bars. Nothing is repaired or deleted: a row that is set aside keeps its values, with the rule, what was observed and a
sentence of evidence. So do all rows of a symbol whose history as a whole is wrong, as long as few symbols are. ERROR
blocks what comes after; WARN is shown and let through.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import polars as pl
import polars.selectors as cs

from quant_assets.common.errors import BarContractError
from quant_assets.common.settings import UniverseConfig
from quant_assets.common.universe_settings import Severity
from quant_assets.market.actions import with_factors
from quant_assets.market.parsing import PRICES, in_order, sentence
from quant_assets.market.rules.bar_rule import (
    FEWEST_FOR_USUAL,
    KEY,
    USUAL_SESSIONS,
    BarRule,
    Judged,
    all_rules,
    bar_rules,
    limits_of,
    raw_rules,
)
from quant_assets.market.rules.whole_symbols import (
    REASONS,
    accepted_frame,
    broken_symbols,
    contract_rows,
    released,
    with_whole_symbols,
)
from quant_assets.market.set_aside import NOTHING

MAX_OFFENDERS = 50
SENTENCES = 5

OFFENDERS_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "symbol": pl.String,
    "session": pl.Date,
    "observed": pl.Float64,
    "limit": pl.Float64,
}
NEEDED = ("symbol", "session", "open", "high", "low", "close", "volume")


# ---------------------------------------------------------------------------------------- what one rule found


@dataclass(frozen=True)
class QualityFinding:
    """What one rule found.

    ``n_checked`` counts the things judged (bars; sessions or symbols for the completeness rules); a rule of severity
    SET_ASIDE whose offenders were set aside has passed, beyond the limit it is an ERROR. ``offenders`` holds the
    first 50 by symbol and session, with what was observed and the limit it broke; ``evidence`` has a sentence on each
    of the first 5 where the rule gives one.
    """

    rule: str
    severity: Severity
    passed: bool
    n_offenders: int
    n_checked: int
    offenders: pl.DataFrame
    evidence: tuple[str, ...] = ()

    @property
    def check_severity(self) -> Literal["ERROR", "WARN"]:
        """Severity of the asset check: a row that was taken out is shown (WARN), it blocks nothing."""
        return "ERROR" if self.severity in ("ERROR", "SET_ASIDE") else "WARN"


def _measured(rule: BarRule, judged: Judged) -> tuple[pl.DataFrame, int]:
    """The offenders of a rule, with its sentence on each, and how many things it judged."""
    got = rule.measure(judged)
    offenders, n_checked = got if isinstance(got, tuple) else (got, judged.bars.height)
    if rule.evidence and not offenders.is_empty():
        told = sentence(rule.evidence_template, *rule.evidence_columns)
        offenders = offenders.with_columns(evidence=told)
    return offenders, n_checked


def _finding(
    rule: BarRule,
    offenders: pl.DataFrame,
    n_checked: int,
    n_bars: int,
    *,
    taken: bool = False,
    note: str = "",
) -> QualityFinding:
    """Shape what a rule found. It passes iff it has no offender and, so that nothing passes unseen, bars.

    ``taken``: its offenders are symbols that were set aside, so that nothing of them is left to block.
    """
    ordered = offenders.sort(KEY)
    shaped = ordered.select(pl.col(name).cast(dtype) for name, dtype in OFFENDERS_SCHEMA.items())
    passed = bool((shaped.height == 0 or taken) and n_bars > 0)
    sentences: tuple[str, ...] = ()
    if "evidence" in ordered.columns and ordered.height:
        told = ordered.head(SENTENCES).select(sentence("{} {}: {}", *KEY, "evidence"))
        sentences = tuple(told.to_series().to_list())
    if note and shaped.height:
        sentences = (*sentences, note)
    severity = "ERROR" if rule.severity == "SET_ASIDE" and not passed else rule.severity
    return QualityFinding(
        rule.name, severity, passed, shaped.height, n_checked, shaped.head(MAX_OFFENDERS), sentences
    )


# --------------------------------------------------------------------------------------------------- raw rows


@dataclass(frozen=True)
class Quarantine:
    """Raw bars parted in two, and why.

    ``kept`` and ``quarantined`` hold every row of the input once, bit for bit, in its order; ``quarantined``
    appends `REASONS`: the first rule it broke, what was observed, the limit, a sentence (with the names of
    other rules that it broke), and the session at whose close it can be known to be wrong (of several rules the
    earliest). Rows known on their own session are in no panel; the others are in it until then
    (`quant_assets.features.as_known`). ``accepted`` are the rows among ``kept`` that a person let through, with the
    reason. ``findings`` has one entry per rule of `raw_rules`; a row that was taken counts under its first rule.
    ``symbols`` (`quant_assets.market.rules.whole_symbols.FOUND`) are those set aside as a whole: every row of theirs
    is quarantined. ``no_bars`` is what the row contract left out, in the columns of ``quarantined``; no row of the
    input.
    """

    kept: pl.DataFrame
    quarantined: pl.DataFrame
    accepted: pl.DataFrame
    findings: tuple[QualityFinding, ...]
    symbols: pl.DataFrame
    no_bars: pl.DataFrame

    @property
    def listed(self) -> pl.DataFrame:
        """Everything that is left out of the panel, by symbol and session."""
        if self.no_bars.is_empty():
            return self.quarantined
        return pl.concat([self.quarantined, self.no_bars]).sort(KEY, maintain_order=True, nulls_last=True)


def quarantine(
    bars: pl.DataFrame,
    actions: pl.DataFrame,
    universe: UniverseConfig,
    *,
    listings: pl.DataFrame | None = None,
    doubts: pl.DataFrame | None = None,
    no_bars: pl.DataFrame = NOTHING,
) -> Quarantine:
    """Part raw bars into those to go on with and those that look wrong.

    Parameters
    ----------
    bars : polars.DataFrame
        Validated raw bars (`quant_assets.market.parsing.RAW_SCHEMA`), any order.
    actions : polars.DataFrame
        Their corporate actions, as `quant_assets.market.actions.derive_corporate_actions` gives them.
    universe : UniverseConfig
        Calendar, limits, severities and accepted bars.
    listings : polars.DataFrame, optional
        By which the bars are named (`quant_assets.market.listings.by_instrument`).
    doubts : polars.DataFrame, optional
        About the actions (`quant_assets.market.actions.doubts_of`).
    no_bars : polars.DataFrame
        What the row contract left out of the feed (`quant_assets.market.set_aside.ASIDE`).

    Returns
    -------
    Quarantine
        A row goes when a rule of severity QUARANTINE finds it and it is not accepted for that rule; one that only
        later bars can show to be wrong stays until they are there. A symbol goes as a whole when a rule of severity
        SET_ASIDE, on raw bars or on the panel that would be left, finds it: all such symbols or, where they are more
        than ``quality.set_aside.symbols`` allows, none. Rules of other severities take nothing out; their findings
        block (ERROR) or show (WARN).

    Raises
    ------
    BarContractError
        When a column of the contract is missing.
    ConfigurationError
        When the universe sets what its rules do not allow.
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
    row_rules = tuple(rule for rule in rules if rule.judged_on == "rows")
    limits = limits_of(universe)
    ready = prepared(bars, actions)

    def judged(frame: pl.DataFrame, aside: pl.DataFrame) -> Judged:
        return Judged(frame, actions, aside, universe.calendar, limits, listings=listings, doubts=doubts)

    suspects = _suspects(judged(ready, ready.clear()), row_rules)
    accepted = accepted_frame(universe.quality.accepted, row_rules)
    key = ["symbol", "session", "rule"]
    let_through = suspects.join(accepted, on=key, how="inner", maintain_order="left")
    unreleased = suspects.join(accepted, on=key, how="anti", maintain_order="left")
    taking = [rule.name for rule in row_rules if rule.severity == "QUARANTINE"]
    reasons = _one_reason_each(unreleased.filter(pl.col("rule").is_in(taking)))
    held = unreleased.join(reasons.select("row"), on="row", how="anti", maintain_order="left")

    # A row that is no bar counts against its symbol unless another row has its session.
    unmatched = no_bars.join(bars.select(KEY), on=KEY, how="anti", maintain_order="left")
    gone = pl.concat(
        [
            reasons.select("row", *KEY, n=pl.lit(1, dtype=pl.Int64)),
            unmatched.select(pl.lit(None, dtype=pl.Int64).alias("row"), *KEY, n="n_rows"),
        ]
    )
    feed: dict[str, tuple[pl.DataFrame, int]] = {}
    of_feed = [rule for rule in rules if rule.judged_on == "feed"]
    matched = suspects.select(key)
    for rule in of_feed:
        offenders, n_checked = _measured(rule, judged(ready, gone))
        left, used = released(offenders, accepted_frame(universe.quality.accepted, [rule]))
        matched, feed[rule.name] = matched.vstack(used.select(key)), (left, n_checked)
    whole = [(rule, feed[rule.name][0]) for rule in of_feed if rule.severity == "SET_ASIDE"]
    whole += _wrong_in_panel(ready, judged, gone, [offenders for _, offenders in whole], universe)
    n_symbols = pl.concat([bars["symbol"], no_bars["symbol"].drop_nulls()]).n_unique()
    symbols = broken_symbols(whole, n_symbols=n_symbols, most=universe.quality.set_aside)
    out_of_panel = with_whole_symbols(reasons, ready, symbols.taken)

    numbered = bars.with_row_index("quarantine.row").with_columns(pl.col("quarantine.row").cast(pl.Int64))
    told = out_of_panel.select(pl.col("row").alias("quarantine.row"), *REASONS)
    kept = numbered.join(told, on="quarantine.row", how="anti", maintain_order="left")
    out = numbered.join(told, on="quarantine.row", how="inner", maintain_order="left").drop("quarantine.row")
    no_bar_rows = contract_rows(no_bars, symbols.taken, out)
    findings = []
    for rule in rules:
        note, aside = "", False
        if rule.judged_on == "rows":
            found = reasons if rule.name in taking else held
            offenders, n_checked = found.filter(pl.col("rule") == rule.name), bars.height
        elif rule.judged_on == "acceptances":
            every = accepted_frame(universe.quality.accepted, [*row_rules, *of_feed])
            offenders, n_checked = _measured(rule, judged(every, matched))
        elif rule.judged_on == "aside":
            offenders, n_checked = _measured(rule, judged(pl.concat([out, no_bar_rows]), gone))
        else:
            offenders, n_checked = feed[rule.name]
            aside = rule.severity == "SET_ASIDE" and symbols.taken.height > 0
            note = symbols.too_many if rule.severity == "SET_ASIDE" else ""
        findings.append(_finding(rule, offenders, n_checked, bars.height, taken=aside, note=note))
    still_in = let_through.join(out_of_panel.select("row"), on="row", how="anti", maintain_order="left")
    return Quarantine(
        kept.drop("quarantine.row"),
        out,
        still_in.select("symbol", "session", *REASONS, "reason"),
        tuple(findings),
        symbols.taken,
        no_bar_rows,
    )


def _wrong_in_panel(
    ready: pl.DataFrame,
    judged: Callable[[pl.DataFrame, pl.DataFrame], Judged],
    gone: pl.DataFrame,
    found: list[pl.DataFrame],
    universe: UniverseConfig,
) -> list[tuple[BarRule, pl.DataFrame]]:
    """Rules of severity SET_ASIDE on the panel, with what they find in the bars that would be left."""
    rules = [rule for rule in bar_rules(universe) if rule.severity == "SET_ASIDE"]
    known = {symbol for offenders in found for symbol in offenders["symbol"]}
    panel = ready.drop(cs.starts_with("written."), "before", "after", "usual_move")
    out = gone["row"].drop_nulls()
    if out.len():
        panel = panel.filter(~pl.col("row").is_in(out.implode()))
    if known:
        panel = panel.filter(~pl.col("symbol").is_in(sorted(known)))
    wrong, left_over = [], judged(panel, gone.select(KEY).drop_nulls())
    for rule in rules:
        offenders, _ = _measured(rule, left_over)
        left, _ = released(offenders, accepted_frame(universe.quality.accepted, [rule]))
        wrong.append((rule, left))
    return wrong


def prepared(bars: pl.DataFrame, actions: pl.DataFrame) -> pl.DataFrame:
    """Bars by symbol and session with ``row``, ``written.*`` (as in the source) and adjusted prices and volume.

    ``before`` and ``after`` are the neighbouring closes, ``usual_move`` the median absolute logarithmic move of
    the month before. What is not finite is null here: other rules judge it.
    """
    values = (*PRICES, "volume")
    numbers = (pl.col(name).cast(pl.Float64) for name in values)
    typed = bars.select(
        pl.int_range(pl.len()).cast(pl.Int64).alias("row"),
        "symbol",
        "session",
        *(pl.when(number.is_finite()).then(number) for number in numbers),
    )
    close = pl.col("close")
    move = (close / close.shift()).log().abs()
    factored = with_factors(typed, actions)
    if not in_order(factored):
        factored = factored.sort("symbol", "session", "row")
    return (
        factored.with_columns(pl.col(name).alias(f"written.{name}") for name in values)
        .with_columns(*(pl.col(name) * pl.col("price_factor") for name in PRICES))
        .with_columns(pl.col("volume") * pl.col("volume_factor"))
        .with_columns(
            before=close.shift().over("symbol"),
            after=close.shift(-1).over("symbol"),
            usual_move=move.rolling_median(USUAL_SESSIONS, min_samples=FEWEST_FOR_USUAL)
            .shift()
            .over("symbol"),
        )
    )


def _suspects(judged: Judged, rules: tuple[BarRule, ...]) -> pl.DataFrame:
    """Every row that a rule finds, under every rule that finds it: row, symbol, session and `REASONS`."""
    schema: dict[str, pl.DataType | type[pl.DataType]] = {"row": pl.Int64, **REASONS}
    parts = [pl.DataFrame(schema=schema)]
    for rule in rules if judged.bars.height else ():
        offenders, _ = _measured(rule, judged)
        if offenders.is_empty():
            continue
        told = pl.col("evidence") if rule.evidence else pl.lit(rule.description)
        known = pl.col("session").shift(-rule.later_bars).over("symbol")
        named = offenders.join(
            judged.bars.select("row", known_on=known), on="row", how="left", maintain_order="left"
        ).with_columns(rule=pl.lit(rule.name), evidence=told)
        named = named.filter(pl.col("known_on").is_not_null())  # else nobody can know it yet
        parts.append(named.select(pl.col(name).cast(dtype) for name, dtype in schema.items()))
    ranks = {rule.name: rank for rank, rule in enumerate(rules)}
    return (
        pl.concat(parts)
        .join(judged.bars.select("row", "symbol", "session"), on="row", how="left")
        .sort("row", pl.col("rule").replace_strict(ranks, return_dtype=pl.Int32))
    )


def _one_reason_each(suspects: pl.DataFrame) -> pl.DataFrame:
    """The first rule of every row, the others named in its evidence."""
    if suspects.is_empty():
        return suspects
    others = pl.col("rule").slice(1).str.join(", ")
    return (
        suspects.group_by("row", maintain_order=True)
        .agg(
            pl.col("symbol", "session", *(name for name in REASONS if name != "known_on")).first(),
            pl.col("known_on").min(),
            others=others,
        )
        .with_columns(
            evidence=pl.when(pl.col("others") == "")
            .then(pl.col("evidence"))
            .otherwise(sentence("{} (also: {})", "evidence", "others"))
        )
        .drop("others")
        .select(suspects.columns)
    )


def found_wrong(adjusted: pl.DataFrame, quarantined: pl.DataFrame) -> pl.DataFrame:
    """Adjusted bars with the time at which each was found to be wrong, where there is such a bar.

    Parameters
    ----------
    adjusted : polars.DataFrame
        With ``symbol, session, known_at``: kept bars, and the quarantined ones that later bars showed to be wrong.
    quarantined : polars.DataFrame
        Of `Quarantine`.

    Returns
    -------
    polars.DataFrame
        With ``found_wrong_at`` (UTC), null for good bars; as it came when all of them are good.
    """
    closes = adjusted.select(known_on="session", found_wrong_at="known_at").unique().sort("known_on")
    times = (
        quarantined.filter(pl.col("known_on") > pl.col("session"))
        .select(*KEY, "known_on")
        .sort("known_on")
        .join_asof(closes, on="known_on", strategy="forward")
        .drop("known_on")
    )
    marked = adjusted.join(times, on=KEY, how="left", maintain_order="left")
    return adjusted if marked["found_wrong_at"].is_null().all() else marked


# ------------------------------------------------------------------------------- adjusted bars that were kept


def check_bars(
    bars: pl.DataFrame,
    actions: pl.DataFrame,
    universe: UniverseConfig,
    *,
    quarantined: pl.DataFrame | None = None,
) -> tuple[QualityFinding, ...]:
    """Judge adjusted bars by every rule of `bar_rules`, in its order, with the universe's severities.

    Parameters
    ----------
    bars : polars.DataFrame
        Adjusted bars, as `quant_assets.market.actions.adjust_bars` gives them.
    actions : polars.DataFrame
        The corporate actions that they were adjusted for.
    universe : UniverseConfig
        Calendar and limits.
    quarantined : polars.DataFrame, optional
        Rows that were set aside: their sessions are not missing, and `Quarantine.findings` tells of them.

    Returns
    -------
    tuple of QualityFinding
        One per rule. A rule passes iff it has no offender and, so that nothing passes unseen, there are bars.
        Bars that the configuration accepts for a rule are no offenders of it.

    Raises
    ------
    ConfigurationError
        When the universe sets what its rules do not allow.
    CalendarError
        When the universe's calendar is unknown.
    """
    aside = bars.clear().select(KEY)
    if (
        quarantined is not None
    ):  # of names that are in the panel: those set aside as a whole are no part of it
        aside = quarantined.select(KEY).drop_nulls().join(bars, on="symbol", how="semi")
        gone = quarantined.join(bars, on="symbol", how="anti").select("symbol").drop_nulls().unique()
        actions = actions.join(gone, on="symbol", how="anti", maintain_order="left")
    asked = (universe.start, universe.end)
    judged = Judged(bars.sort(KEY), actions, aside, universe.calendar, limits_of(universe), asked)
    rules = bar_rules(universe)
    # Rules about raw bars answer for their own: here such rows are gone, or were accepted there.
    elsewhere = [rule for rule in all_rules() if rule.judged_on in ("rows", "feed")]
    key = [*KEY, "rule"]
    matched = accepted_frame(universe.quality.accepted, elsewhere).select(key)
    found: dict[str, tuple[pl.DataFrame, int]] = {}
    for rule in rules:
        if rule.judged_on != "acceptances":
            offenders, n_checked = _measured(rule, judged)
            left, used = released(offenders, accepted_frame(universe.quality.accepted, [rule]))
            matched, found[rule.name] = matched.vstack(used.select(key)), (left, n_checked)
    n_symbols = bars["symbol"].n_unique()
    whole = [(rule, found[rule.name][0]) for rule in rules if rule.severity == "SET_ASIDE"]
    too_many = broken_symbols(whole, n_symbols=n_symbols, most=universe.quality.set_aside).too_many
    for rule in rules:
        if rule.judged_on == "acceptances":
            accepted = accepted_frame(universe.quality.accepted, [*rules, *elsewhere])
            found[rule.name] = _measured(
                rule, Judged(accepted, actions, matched, universe.calendar, judged.limits)
            )
    return tuple(
        _finding(rule, *found[rule.name], bars.height, note=too_many if rule.severity == "SET_ASIDE" else "")
        for rule in rules
    )
