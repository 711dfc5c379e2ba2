"""Symbols that a rule on their whole history finds wrong: set aside while they are few, and told of in sentences."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from quant_assets.common.universe_settings import AcceptedBar, SetAside
from quant_assets.market.rules.bar_rule import KEY, ROW_CONTRACT, WHOLE, BarRule

MOST_SENTENCES = 10
REASONS: dict[str, pl.DataType | type[pl.DataType]] = {
    "rule": pl.String,
    "observed": pl.Float64,
    "limit": pl.Float64,
    "evidence": pl.String,
    "known_on": pl.Date,
}
FOUND: dict[str, pl.DataType | type[pl.DataType]] = {
    "symbol": pl.String,
    "session": pl.Date,
    **{name: dtype for name, dtype in REASONS.items() if name != "known_on"},
}


def accepted_frame(accepted: Iterable[AcceptedBar], rules: Iterable[BarRule]) -> pl.DataFrame:
    """What is accepted of these rules: symbol, session (null for all of the symbol's), rule, reason."""
    names = {rule.name for rule in rules}
    rows = [(bar.symbol, bar.session, bar.rule, bar.reason) for bar in accepted if bar.rule in names]
    schema = {"symbol": pl.String, "session": pl.Date, "rule": pl.String, "reason": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def released(offenders: pl.DataFrame, accepted: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Offenders of one rule without those that are accepted, and the acceptances that matched one."""
    of_symbol, of_bar = accepted.filter(pl.col("session").is_null()), accepted.drop_nulls("session")
    left = offenders.join(of_bar, on=KEY, how="anti", maintain_order="left")
    left = left.join(of_symbol, on="symbol", how="anti", maintain_order="left")
    matched = [of_bar.join(offenders, on=KEY, how="semi"), of_symbol.join(offenders, on="symbol", how="semi")]
    return left, pl.concat(matched)


@dataclass(frozen=True)
class BrokenSymbols:
    """Symbols that rules of severity SET_ASIDE find, under the first rule, and whether they are few enough.

    ``found`` has `FOUND`; ``most`` is how many of ``n_symbols`` may be set aside.
    """

    found: pl.DataFrame
    n_symbols: int
    most: int

    @property
    def taken(self) -> pl.DataFrame:
        """Those that are set aside: all or, where they are too many, none."""
        return self.found if self.found.height <= self.most else self.found.clear()

    @property
    def too_many(self) -> str:
        """In a sentence that they are; empty when they are not."""
        if self.found.height <= self.most:
            return ""
        return (
            f"{self.found.height} of {self.n_symbols} symbols are broken, {self.most} may be set aside: correct the "
            "feed, or `exclude:` them, accept what is right, or raise `quality: {set_aside: {symbols: ...}}`"
        )


def broken_symbols(
    found: Iterable[tuple[BarRule, pl.DataFrame]], *, n_symbols: int, most: SetAside
) -> BrokenSymbols:
    """Symbols among the offenders of rules, in the order of the rules."""
    parts = [pl.DataFrame(schema=FOUND)]
    for rule, offenders in found:
        if offenders.is_empty():
            continue
        told = pl.col("evidence") if "evidence" in offenders.columns else pl.lit(rule.description)
        named = offenders.with_columns(rule=pl.lit(rule.name), evidence=told)
        first = named.sort("session", maintain_order=True).unique("symbol", keep="first", maintain_order=True)
        parts.append(first.select(pl.col(name).cast(dtype) for name, dtype in FOUND.items()))
    symbols = pl.concat(parts).unique("symbol", keep="first", maintain_order=True).sort("symbol")
    return BrokenSymbols(symbols, n_symbols, most.most_symbols(n_symbols))


def with_whole_symbols(reasons: pl.DataFrame, rows: pl.DataFrame, symbols: pl.DataFrame) -> pl.DataFrame:
    """Reasons of single rows with one for every other row of symbols that are set aside.

    Parameters
    ----------
    reasons : polars.DataFrame
        ``row, symbol, session`` and `REASONS`.
    rows : polars.DataFrame
        Every raw bar: ``row, symbol, session``.
    symbols : polars.DataFrame
        Of `BrokenSymbols.taken`.

    Returns
    -------
    polars.DataFrame
        As ``reasons``, by row. Of these symbols no bar is in any panel: each is known on its own session.
    """
    if symbols.is_empty():
        return reasons
    evidence = pl.concat_str(
        "symbol", pl.lit(f" {WHOLE}, "), "rule", pl.lit(" from "), pl.col("session").cast(pl.String), pl.lit(": "),
        "evidence", ignore_nulls=True,
    )  # fmt: skip
    whole = symbols.select("symbol", "rule", "observed", "limit", evidence=evidence)
    theirs = (
        rows.select("row", *KEY)
        .join(whole, on="symbol", how="inner")
        .join(reasons, on="row", how="anti")
        .with_columns(known_on="session")
        .select(reasons.columns)
    )
    gone = pl.col("symbol").is_in(symbols["symbol"].implode())
    at_once = reasons.with_columns(known_on=pl.when(gone).then("session").otherwise("known_on"))
    return pl.concat([at_once, theirs]).sort("row")


def contract_rows(contract: pl.DataFrame, symbols: pl.DataFrame, like: pl.DataFrame) -> pl.DataFrame:
    """What was no bar, as rows of a table of quarantined bars (without values).

    Parameters
    ----------
    contract : polars.DataFrame
        `quant_assets.market.set_aside.ASIDE`.
    symbols : polars.DataFrame
        Of `BrokenSymbols.taken`: their rows say so.
    like : polars.DataFrame
        A frame of quarantined bars, for its columns.
    """
    whole = pl.col("symbol").is_in(symbols["symbol"].implode()).fill_null(value=False)
    several = pl.when(pl.col("n_rows") > 1)
    evidence = pl.concat_str(
        pl.when(whole).then(pl.concat_str("symbol", pl.lit(f" {WHOLE}: "))).otherwise(pl.lit("")),
        several.then(pl.concat_str("n_rows", pl.lit(" rows are no bars, the first: "))).otherwise(pl.lit("")),
        "origin", pl.lit(" row "), "row", pl.lit(", column "), "column", pl.lit(", value "),
        pl.col("value").fill_null("nothing"), pl.lit(" ("), "problem", pl.lit(")"),
    )  # fmt: skip
    told = contract.with_columns(
        rule=pl.lit(ROW_CONTRACT), observed="n_rows", limit=0, evidence=evidence, known_on="session"
    )
    return told.select(
        (pl.col(name) if name in told.columns else pl.lit(None).alias(name)).cast(dtype)
        for name, dtype in like.schema.items()
    )


def _of_all_years(evidence: str) -> str:
    """Evidence of one year's broken rows, without their number: whoever tells of all years has his own."""
    return re.sub(r"\b\d+ rows are no bars, the first: ", "as ", evidence)


def set_aside_sentences(quarantined: pl.DataFrame) -> list[str]:
    """What is left out of the panel and why, for the last lines of a run: ten at most, the gravest first.

    Parameters
    ----------
    quarantined : polars.DataFrame
        The table of ``quarantined_bars``.

    Returns
    -------
    list of str
        One sentence for each symbol that is set aside, then for each symbol with rows that are no bars, then one
        that counts suspicious bars by rule; empty where nothing is left out.
    """
    # A bar that several rules find is one row.
    no_bar = pl.col("rule") == ROW_CONTRACT
    n_rows = (
        pl.col("observed").filter(no_bar).sum() + pl.col("session").filter(~no_bar).drop_nulls().n_unique()
    )
    whole = pl.col("evidence").str.contains(WHOLE, literal=True)
    told = quarantined.with_columns(
        n=n_rows.over("symbol").cast(pl.Int64), whole=whole.any().over("symbol")
    ).sort("symbol", "session", nulls_last=True)
    # A rule on its whole history says more than the first of its rows that is no bar.
    first = told.sort(whole.not_(), pl.col("rule") == ROW_CONTRACT, maintain_order=True).unique(
        "symbol", keep="first", maintain_order=True
    )
    lines = [
        f"{_of_all_years(evidence)}; {n:,} {'row is' if n == 1 else 'rows are'} left out"
        for evidence, n in first.filter("whole").sort("symbol").select("evidence", "n").iter_rows()
    ]
    single = told.filter(~pl.col("whole"))
    no_bars = single.filter(pl.col("rule") == ROW_CONTRACT).group_by("symbol", maintain_order=True)
    counted = no_bars.agg(pl.col("observed").sum().cast(pl.Int64), pl.col("evidence").first())
    for symbol, n, evidence in counted.iter_rows():
        name = "a symbol that cannot be read" if symbol is None else symbol
        lines.append(
            f"{name}: {n} {'row is no bar' if n == 1 else 'rows are no bars'} and left out: {_of_all_years(evidence)}"
        )
    bars = single.filter(pl.col("rule") != ROW_CONTRACT)
    rest = len(lines) - (MOST_SENTENCES - 1 if bars.height else MOST_SENTENCES)
    if rest > 0:
        lines = [*lines[: -rest - 1], f"and {rest + 1} more symbols: see quarantined_bars"]
    if bars.height:
        rules = bars.group_by("rule").len("n").sort("n", "rule", descending=[True, False])
        tally = ", ".join(f"{rule} {n}" for rule, n in rules.iter_rows())
        lines.append(
            f"{bars.height} suspicious {'bar' if bars.height == 1 else 'bars'} of {bars['symbol'].n_unique()} "
            f"{'symbol' if bars['symbol'].n_unique() == 1 else 'symbols'} in quarantine: {tally}"
        )
    return lines
