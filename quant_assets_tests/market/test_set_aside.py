"""One bad name or row is set aside, listed with its reason, and never stops the others; beyond a limit it does."""

from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from quant_assets.common.errors import BarContractError, ConfigurationError, SourceError
from quant_assets.common.settings import SyntheticSource, UniverseConfig
from quant_assets.common.universe_settings import SetAside
from quant_assets.market.actions import ACTIONS_SCHEMA
from quant_assets.market.reconciliation import reconcile
from quant_assets.market.revisions import vintage
from quant_assets.market.rules import check_bars, check_quality, quarantine
from quant_assets.market.rules.quality import Quarantine
from quant_assets.market.rules.whole_symbols import set_aside_sentences
from quant_assets.market.set_aside import ASIDE, Terms, metadata_of, set_aside_in
from quant_assets.market.sources.contract import part_bars, settled
from quant_assets.market.sources.sources import read_all, read_bars, read_year
from quant_assets.market.synthetic import generate
from quant_assets_tests.market.test_contract import rows

START, END = date(2023, 1, 3), date(2023, 12, 29)
PRICES = ("open", "high", "low", "close", "adj_close")
NO_ACTIONS = pl.DataFrame(schema=ACTIONS_SCHEMA)
SYMBOL, POSITION = pl.col("symbol"), pl.int_range(pl.len()).over("symbol")


@lru_cache(maxsize=1)
def hundred() -> pl.DataFrame:
    """100 names of 250 sessions: 25,000 rows, of which 25 may be set aside, and 5 names."""
    return generate(SyntheticSource(kind="synthetic", seed=5, n_symbols=100), "XNYS", START, END)


def spoilt(where: pl.Expr, **values: Any) -> pl.DataFrame:
    return hundred().with_columns(
        pl.when(where).then(value).otherwise(pl.col(name)).alias(name) for name, value in values.items()
    )


def universe(folder: Path, frame: pl.DataFrame, **fields: Any) -> UniverseConfig:
    frame.write_parquet(folder / "feed.parquet")
    source = {"kind": "parquet", "path": str(folder / "feed.parquet")}
    return UniverseConfig.model_validate(
        {"name": "test", "source": source, "start": START, "end": END, **fields}
    )


def judged(config: UniverseConfig) -> Quarantine:
    read = read_bars(config)
    return quarantine(read.bars, NO_ACTIONS, config, no_bars=read.aside)


def failing(parted: Quarantine) -> dict[str, str]:
    return {f.rule: f.severity for f in parted.findings if not f.passed}


def three_broken() -> pl.DataFrame:
    """S007 with every third high below the low, S050 without its August, S099 not a number throughout."""
    nothing = pl.lit(float("nan"))
    frame = spoilt(SYMBOL == "S099", **dict.fromkeys((*PRICES, "volume"), nothing))
    low = pl.when((SYMBOL == "S007") & (POSITION % 3 == 0)).then(pl.col("low") / 2).otherwise(pl.col("high"))
    august = (SYMBOL == "S050") & (pl.col("session").dt.month() == 8)
    return frame.with_columns(high=low).filter(~august)


def test_of_a_hundred_names_three_broken_ones_are_set_aside_and_97_go_on(tmp_path: Path) -> None:
    config = universe(tmp_path, three_broken())
    parted = judged(config)
    assert parted.kept["symbol"].n_unique() == 97
    assert parted.symbols.select("symbol", "rule").rows() == [
        ("S007", "quarantined_fraction"), ("S050", "missing_fraction"), ("S099", "quarantined_fraction"),
    ]  # fmt: skip
    assert failing(parted) == {"row_contract": "WARN", "symbols_set_aside": "WARN"}
    # 250 sessions less 84 rows that are no bars; August 2023 had 23 sessions.
    assert parted.quarantined.group_by("symbol").len().sort("symbol").rows() == [("S007", 166), ("S050", 227)]
    assert set_aside_sentences(parted.listed) == [
        "S007 is set aside as a whole, quarantined_fraction from 2023-01-03: 84 of its 250 rows are quarantined or "
        "no bars; 250 rows are left out",
        "S050 is set aside as a whole, missing_fraction from 2023-08-01: 23 of 250 sessions between its first and "
        "last bar are missing; 227 rows are left out",
        f"S099 is set aside as a whole: as {tmp_path}/feed.parquet row 24728, column "
        "open, value NaN (not finite); 250 rows are left out",
    ]
    findings = check_bars(parted.kept, NO_ACTIONS, config, quarantined=parted.listed)
    assert [f.rule for f in findings if not f.passed and f.severity == "ERROR"] == []
    split = pl.DataFrame(
        [("S007", date(2023, 3, 1), "split", 2.0, 0.5, None)], schema=ACTIONS_SCHEMA, orient="row"
    )
    told = {f.rule: f.passed for f in check_bars(parted.kept, split, config, quarantined=parted.listed)}
    assert told["actions_without_bar"], "an action of a name that is set aside is missed by nobody"


def test_the_price_of_a_name_that_is_kept_is_that_of_the_feed_bit_for_bit(tmp_path: Path) -> None:
    kept = judged(universe(tmp_path, three_broken())).kept
    good = hundred().filter(~SYMBOL.is_in(["S007", "S050", "S099"])).sort("symbol", "session")
    assert kept.select(good.columns).equals(good)


@pytest.mark.parametrize(
    ("n", "most"), [(1, 0), (9, 0), (10, 1), (19, 1), (20, 1), (40, 2), (100, 5), (500, 25)]
)
def test_how_many_of_so_many_symbols_may_go(n: int, most: int) -> None:
    assert SetAside().most_symbols(n) == most
    assert SetAside(symbols=0).most_symbols(n) == 0
    assert SetAside(symbols=0.2).most_symbols(8) == 1
    with pytest.raises(ValueError, match=r"less than or equal to 0\.2"):
        SetAside(symbols=0.21)
    with pytest.raises(ValueError, match=r"less than or equal to 0\.02"):
        SetAside(rows=0.021)


def test_too_many_broken_names_block_and_none_of_them_is_taken_out(tmp_path: Path) -> None:
    gap = SYMBOL.is_in([f"S{n:03d}" for n in range(6)]) & (pl.col("session").dt.month() == 8)
    config = universe(tmp_path, hundred().filter(~gap))
    parted = judged(config)
    assert parted.symbols.is_empty()
    assert parted.kept.height == 25_000 - 6 * 23
    blocking = {f.rule: f for f in check_bars(parted.kept, NO_ACTIONS, config, quarantined=parted.listed)}
    found = blocking["missing_fraction"]
    assert (found.passed, found.severity, found.n_offenders) == (False, "ERROR", 6)
    assert found.evidence[-1].startswith("6 of 100 symbols are broken, 5 may be set aside: ")
    wider = universe(tmp_path, hundred().filter(~gap), quality={"set_aside": {"symbols": 0.06}})
    assert judged(wider).kept["symbol"].n_unique() == 94


def test_too_many_names_without_a_readable_row_refuse_the_feed(tmp_path: Path) -> None:
    broken = spoilt(SYMBOL.is_in([f"S{n:03d}" for n in range(6)]), close=pl.lit(float("nan")))
    said = r"6 of 100 symbols are broken as a whole, `quality: \{set_aside: \{symbols: 0\.05\}\}` lets 5"
    with pytest.raises(BarContractError, match=said):
        read_bars(universe(tmp_path, broken))


# ------------------------------------------------------------------------------------------------- single rows


def few(n: int, **values: Any) -> pl.DataFrame:
    """The first session of the first ``n`` names with other values: one row of each."""
    return spoilt((POSITION == 0) & SYMBOL.is_in([f"S{k:03d}" for k in range(n)]), **values)


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("close", float("nan"), "not finite"),
        ("open", -1.0, "not positive"),
        ("high", 0.001, "high below low"),
        ("volume", None, "missing value"),
    ],
)
def test_a_few_broken_rows_are_set_aside_and_listed_with_what_was_written(
    tmp_path: Path, column: str, value: float | None, problem: str
) -> None:
    read = read_bars(universe(tmp_path, few(12, **{column: pl.lit(value)})))
    assert read.bars.height == 25_000 - 12
    assert read.aside.height == 12
    written = None if value is None else "NaN" if value != value else str(value)
    assert read.aside.select("symbol", "session", "row", "column", "value", "problem", "n_rows").row(1) == (
        "S001", START, 251, column, written, problem, 1,
    )  # fmt: skip
    assert "set aside as no bars: 12 rows of 12 symbols, listed in quarantined_bars" in read.notes


def test_beyond_a_thousandth_of_the_rows_the_feed_is_refused_with_the_limit_and_how_to_raise_it(
    tmp_path: Path,
) -> None:
    assert read_bars(universe(tmp_path, few(25, close=pl.lit(-1.0)))).aside.height == 25
    with pytest.raises(
        BarContractError, match=r"26 of 25000 rows.*set_aside: \{rows: 0\.001\}.*lets 25 of 25000"
    ):
        read_bars(universe(tmp_path, few(26, close=pl.lit(-1.0))))
    wider = universe(tmp_path, few(26, close=pl.lit(-1.0)), quality={"set_aside": {"rows": 0.002}})
    assert read_bars(wider).bars.height == 25_000 - 26


def test_strict_is_one_word_and_refuses_for_one_row_or_name(tmp_path: Path) -> None:
    strict = {"strict": True}
    with pytest.raises(BarContractError, match=r"1 of 25000 rows.*strict: true"):
        read_bars(universe(tmp_path, few(1, close=pl.lit(-1.0)), quality=strict))
    august = (SYMBOL == "S050") & (pl.col("session").dt.month() == 8)
    config = universe(tmp_path, hundred().filter(~august), quality=strict)
    parted = judged(config)
    assert parted.symbols.is_empty()
    findings = {f.rule: f for f in check_bars(parted.kept, NO_ACTIONS, config)}
    assert (findings["missing_fraction"].passed, findings["missing_fraction"].severity) == (False, "ERROR")


def test_of_two_accounts_of_a_session_neither_is_taken_and_of_a_repetition_the_first(tmp_path: Path) -> None:
    own = hundred().filter((SYMBOL == "S003") & (POSITION < 2))
    other = own.with_columns(volume=pl.when(POSITION == 0).then(pl.col("volume") + 1).otherwise("volume"))
    read = read_bars(universe(tmp_path, pl.concat([hundred(), other])))
    assert read.bars.height == 24_999
    assert read.bars.filter(SYMBOL == "S003")["session"].min() == own["session"][1]
    assert read.aside.select("session", "row", "problem").rows() == [
        (own["session"][0], 751, "contradicts"),
        (own["session"][0], 25_001, "contradicts"),
        (own["session"][1], 25_002, "repeats"),
    ]
    parted = quarantine(read.bars, NO_ACTIONS, universe(tmp_path, hundred()), no_bars=read.aside)
    assert parted.kept.height == 24_999, "the repetition takes no bar of the panel with it"


def test_a_row_whose_symbol_or_session_cannot_be_read_is_listed_without_it(tmp_path: Path) -> None:
    text = hundred().with_columns(pl.col("session").cast(pl.String))
    first = pl.int_range(pl.len()) == 0
    text = text.with_columns(
        session=pl.when(first).then(pl.lit("2023-02-30")).otherwise("session"),
        symbol=pl.when(pl.int_range(pl.len()) == 1).then(None).otherwise("symbol"),
    )
    config = universe(tmp_path, text, start=date(2022, 1, 3))
    read = read_bars(config)
    assert read.aside.select("symbol", "session", "problem").rows() == [
        (None, date(2023, 1, 4), "missing value"), ("S000", None, "unparsable date"),
    ]  # fmt: skip
    # What has no date stands in the universe's first year.
    assert read_year(config, "2022").aside["problem"].to_list() == ["unparsable date"]
    assert read_year(config, "2023").aside["problem"].to_list() == ["missing value"]
    listed = quarantine(read.bars, NO_ACTIONS, config, no_bars=read.aside).listed
    assert listed.select("symbol", "session", "rule", "observed").rows() == [
        ("S000", None, "row_contract", 1.0), (None, date(2023, 1, 4), "row_contract", 1.0),
    ]  # fmt: skip
    assert set_aside_sentences(listed)[1].startswith(
        "a symbol that cannot be read: 1 row is no bar and left out: "
    )


@settings(max_examples=25, deadline=None)
@given(broken=st.sets(st.integers(0, 59), max_size=20), column=st.sampled_from(["open", "volume", "close"]))
def test_every_row_is_either_a_bar_or_listed_and_no_broken_one_is_a_bar(
    broken: set[int], column: str
) -> None:
    days = pl.Series("session", [START + timedelta(days=k) for k in range(300)])
    frame = pl.concat([rows(4)] * 75).with_columns(days)
    here = pl.int_range(pl.len()).is_in(sorted(broken))
    frame = frame.with_columns(pl.when(here).then(-1.0).otherwise(pl.col(column)).alias(column))
    terms = Terms(most=SetAside(rows=0.02), most_of_symbol=1.0)
    part = part_bars(frame, origin="f", terms=terms)
    assert part.bars.height == 300 - len(broken)
    assert (part.bars[column] > 0).all()
    if len(broken) > 6:
        with pytest.raises(BarContractError, match=f"{len(broken)} of 300 rows are no bars"):
            settled([part], terms)
    else:
        assert settled([part], terms).aside["row"].to_list() == [n + 1 for n in sorted(broken)]


# ----------------------------------------------------------------------------------------- what was not asked for


def test_what_is_broken_of_names_and_dates_that_were_not_asked_for_does_not_count(tmp_path: Path) -> None:
    half = [f"S{n:03d}" for n in range(50)]
    broken = spoilt(SYMBOL.is_in(half), close=pl.lit(float("nan")))
    good = universe(tmp_path, broken, symbols=["S050", "S051"])
    assert read_bars(good).bars.height == 500
    assert read_bars(good).aside.is_empty()
    out = universe(tmp_path, broken, exclude=half)
    assert read_bars(out).bars.height == 12_500
    assert read_bars(out).aside.is_empty()
    early = spoilt(pl.col("session") < date(2023, 3, 1), close=pl.lit(float("nan")))
    later = universe(tmp_path, early, start=date(2023, 3, 1))
    assert read_bars(later).aside.is_empty()
    with pytest.raises(BarContractError, match="symbols are broken as a whole"):
        read_bars(universe(tmp_path, early))
    with pytest.raises(BarContractError, match=r"strict: true"):
        read_bars(universe(tmp_path, broken, symbols=["S050"], quality={"strict": True}))


def test_a_name_that_was_asked_for_and_has_no_bar_at_all_is_set_aside_and_not_missing(tmp_path: Path) -> None:
    asked = [f"S{n:03d}" for n in range(90, 100)]
    parted = judged(universe(tmp_path, three_broken(), symbols=asked))
    assert parted.kept["symbol"].n_unique() == 9
    assert parted.symbols["symbol"].to_list() == ["S099"]
    with pytest.raises(SourceError, match="symbols S100"):
        read_bars(universe(tmp_path, three_broken(), symbols=[*asked, "S100"]))


def test_excluded_names_are_taken_out_by_hand_before_anything_is_judged(tmp_path: Path) -> None:
    config = universe(tmp_path, three_broken(), exclude=["S007", "S050", "S099", "NOBODY"])
    read = read_bars(config)
    assert read.bars["symbol"].n_unique() == 97
    assert any(note == "exclude: there was no bar of NOBODY, S099" for note in read.notes)
    assert failing(judged(config)) == {}
    assert (
        read_bars(universe(tmp_path, hundred(), symbols=["S001", "S002"], exclude=["S002"])).bars.height
        == 250
    )
    with pytest.raises(ValidationError, match="takes out every one"):
        universe(tmp_path, hundred(), symbols=["S001"], exclude=["S001"])


# ------------------------------------------------------------------------------------------- a file of each name


def files_of_names(folder: Path, n: int = 12) -> UniverseConfig:
    for symbol in [f"S{k:03d}" for k in range(n)]:
        hundred().filter(symbol == SYMBOL).drop("symbol").write_csv(folder / f"{symbol}.csv")
    source = {"kind": "csv", "path": str(folder / "*.csv")}
    return UniverseConfig.model_validate({"name": "test", "source": source, "start": START, "end": END})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<html>\n<title>404</title>\n</html>\n", "a web page with the title '404'"),
        (b"", "an empty file"),
        (b"session,open\n2023-01-03,1\n", "columns ['session', 'open']"),
        (b"session,open,high,low,close,volume\n\x81\n", "byte 0x81"),
    ],
)
def test_a_file_that_is_no_table_is_its_name_set_aside(tmp_path: Path, content: bytes, said: str) -> None:
    config = files_of_names(tmp_path)
    (tmp_path / "S004.csv").write_bytes(content)
    parted = judged(config)
    assert parted.kept["symbol"].n_unique() == 11
    lines = set_aside_sentences(parted.listed)
    assert len(lines) == 1
    assert lines[0].startswith("S004 is set aside as a whole: ")
    assert said in lines[0]
    (tmp_path / "S005.csv").write_bytes(content)
    with pytest.raises((BarContractError, SourceError), match=r"S004\.csv"):
        read_bars(config)
    assert read_bars(config.model_copy(update={"exclude": ("S005",)})).bars["symbol"].n_unique() == 10


# ------------------------------------------------------------------------------- rules on a symbol's whole history


def shifted(frame: pl.DataFrame) -> pl.DataFrame:
    early = pl.when(SYMBOL == "S010").then(pl.col("session") - pl.duration(days=1)).otherwise("session")
    return frame.with_columns(session=early.cast(pl.Date)).filter(pl.col("session") >= START)


def unit_changed(frame: pl.DataFrame) -> pl.DataFrame:
    pence = (SYMBOL == "S010") & (POSITION >= 120)
    return frame.with_columns(
        pl.when(pence).then(pl.col(n) * 100).otherwise(pl.col(n)).alias(n) for n in PRICES
    )


def never_rebased(frame: pl.DataFrame) -> pl.DataFrame:
    half = (SYMBOL == "S010") & (POSITION >= 120)
    halved = [pl.when(half).then(pl.col(n) / 2).otherwise(pl.col(n)).alias(n) for n in PRICES]
    return frame.with_columns(*halved, volume=pl.when(half).then(pl.col("volume") * 2).otherwise("volume"))


def gappy(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.filter(~((SYMBOL == "S010") & (POSITION % 20 == 5)))


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (shifted, "shifted_sessions"),
        (unit_changed, "price_unit_change"),
        (never_rebased, "split_never_rebased"),
        (gappy, "missing_fraction"),
    ],
)
def test_a_history_that_is_wrong_as_a_whole_is_set_aside_until_a_person_accepts_it(
    tmp_path: Path, spoil: Any, rule: str
) -> None:
    config = universe(tmp_path, spoil(hundred()))
    parted = judged(config)
    assert parted.symbols.select("symbol", "rule").rows() == [("S010", rule)]
    assert "S010" not in parted.kept["symbol"]
    assert parted.kept["symbol"].n_unique() == 99
    theirs = parted.quarantined.filter(SYMBOL == "S010")
    assert (theirs["known_on"] == theirs["session"]).all(), "in no panel from its first session on"
    session = parted.symbols["session"].item()
    for word in ({}, {"session": session}):
        accepted = [{"symbol": "S010", "rule": rule, "reason": "looked at by a person", **word}]
        allowed = universe(tmp_path, spoil(hundred()), quality={"accepted": accepted})
        again = judged(allowed)
        assert rule not in again.symbols["rule"]
        assert "accepted_without_match" not in failing(again)
        findings = {f.rule: f for f in check_bars(again.kept, NO_ACTIONS, allowed, quarantined=again.listed)}
        assert findings["accepted_without_match"].passed
        if rule != "shifted_sessions":  # what lies on no session stays out, and then too little is left
            assert "S010" in again.kept["symbol"]
            assert findings[rule].passed
    elsewhere = [{"symbol": "S011", "rule": rule, "reason": "looked at by a person"}]
    stale = universe(tmp_path, spoil(hundred()), quality={"accepted": elsewhere})
    assert judged(stale).symbols["symbol"].to_list() == ["S010"]


def test_a_rule_on_single_bars_is_accepted_with_its_session_only(tmp_path: Path) -> None:
    accepted = [{"symbol": "S010", "rule": "price_spike", "reason": "looked at by a person"}]
    with pytest.raises(ConfigurationError, match=r"accepted\.0\.session.*'price_spike' is about single bars"):
        check_quality(universe(tmp_path, hundred(), quality={"accepted": accepted}))


# --------------------------------------------------------------------------------- how it travels and how it is told


def test_a_clean_year_is_stored_as_it_always_was_and_another_carries_what_was_set_aside(
    tmp_path: Path,
) -> None:
    clean = vintage(read_year(universe(tmp_path, hundred()), "2023"))
    assert set(clean.metadata) == {"provider"}
    read = read_year(universe(tmp_path, few(3, close=pl.lit(-1.0))), "2023")
    table = vintage(read)
    assert set(table.metadata) == {"provider", "set_aside"}
    assert set_aside_in([clean, table]).equals(read.aside)
    assert set_aside_in([]).schema == ASIDE
    assert metadata_of(read.aside.reverse()) == metadata_of(read.aside), (
        "the order of reading is no part of it"
    )


def test_a_row_that_another_source_has_is_listed_and_the_panel_has_its_bar(tmp_path: Path) -> None:
    hundred().write_parquet(tmp_path / "other.parquet")
    second = {"kind": "parquet", "path": str(tmp_path / "other.parquet"), "label": "other"}
    broken = spoilt((SYMBOL == "S000") & (POSITION == 7), close=pl.lit(-1.0))
    config = universe(tmp_path, broken, alternatives=[second])
    read = read_all(config)
    panel = reconcile(read.bars, config).bars
    assert panel.height == 25_000
    parted = quarantine(panel, NO_ACTIONS, config, no_bars=read.aside)
    assert parted.kept.height == 25_000
    assert parted.listed.select("symbol", "rule").rows() == [("S000", "row_contract")]


def test_at_most_ten_sentences_are_told_the_gravest_first(tmp_path: Path) -> None:
    gap = SYMBOL.is_in(["S000", "S001"]) & (pl.col("session").dt.month() == 8)
    frame = few(14, close=pl.lit(-1.0)).filter(~gap)
    slip = (SYMBOL == "S050") & (POSITION == 100)
    frame = frame.with_columns(
        pl.when(slip).then(pl.col(n) * 10).otherwise(pl.col(n)).alias(n) for n in PRICES
    )
    lines = set_aside_sentences(judged(universe(tmp_path, frame)).listed)
    assert len(lines) == 10
    assert [line[:4] for line in lines[:8]] == [f"S{n:03d}" for n in range(8)]
    assert lines[8] == "and 6 more symbols: see quarantined_bars"
    assert lines[9] == "1 suspicious bar of 1 symbol in quarantine: decimal_slip 1"
    assert set_aside_sentences(judged(universe(tmp_path, hundred())).listed) == []
