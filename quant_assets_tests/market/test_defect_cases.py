"""Each named defect of the catalogue gets its own diagnosis, and none is accepted in silence."""

import re
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest

from quant_assets_tests.market.defect_feeds import SESSIONS, Case, Spoil, as_csv, clean, outcome, put, where
from quant_assets_tests.market.found_cases import ROWS, SERIES
from quant_assets_tests.market.refused_cases import CELLS, LAYOUT

CASES = (*LAYOUT, *CELLS, *ROWS, *SERIES)

HARMLESS: dict[str, Spoil] = {
    "nothing": lambda f: f,
    "rows in any order": lambda f: f.sample(fraction=1.0, shuffle=True, seed=3),
    "a byte order mark": lambda f: b"\xef\xbb\xbf" + as_csv(f),
    "lines that end as in Windows": lambda f: as_csv(f).replace(b"\n", b"\r\n"),
    "quotes around every cell": lambda f: as_csv(f, quote_style="always"),
    "spaces around a symbol": put(where(400), symbol=" S001 "),
    "dates without separators": lambda f: f.with_columns(pl.col("session").dt.strftime("%Y%m%d")),
    "dates day first": lambda f: f.with_columns(pl.col("session").dt.strftime("%d/%m/%Y")),
    "dates month first": lambda f: f.with_columns(pl.col("session").dt.strftime("%m-%d-%Y")),
    "another delimiter": lambda f: as_csv(f, separator=";"),
    "UTF-16 text": lambda f: as_csv(f).decode().encode("utf-16"),
    "Windows-1252 text": lambda f: as_csv(f.with_columns(place=pl.lit("Zürich"))).decode().encode("cp1252"),
    "columns in any order": lambda f: f.select(sorted(f.columns)),
    "other names of columns": lambda f: f.rename(
        {"symbol": "Ticker", "session": "Date", "adj_close": "Adj Close"}
    ),
}


@lru_cache(maxsize=1)
def outcomes() -> dict[str, tuple[tuple[str, ...], str]]:
    with TemporaryDirectory() as folder:
        return {case.name: outcome(case, Path(folder)) for case in CASES}


def flat(said: str) -> str:
    return said.replace("\n", " ")


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_defect_is_named_with_its_place(case: Case) -> None:
    rules, said = outcomes()[case.name]
    assert rules == case.rules, said
    assert re.search(case.cause, flat(said)), said
    assert re.search(case.where, flat(said)), said


# Of 1,506 rows one may be set aside; of 2 symbols none.
ONE_ROW = [case for case in CELLS if re.match(r"\\\(.*: 1\\\)$|unfinished session: 1", case.cause)]


@pytest.mark.parametrize("case", ONE_ROW, ids=[case.name for case in ONE_ROW])
def test_one_broken_row_is_set_aside_with_its_place_and_the_rest_is_used(case: Case, tmp_path: Path) -> None:
    rules, said = outcome(case, tmp_path, strict=False)
    # A row that has no date leaves a session without a bar.
    without_date = case.name in {"a day that does not exist", "one date of another format"}
    assert rules == ("row_contract", *(["missing_sessions"] if without_date else [])), said
    problem = case.cause.strip("\\()").split(":")[0]
    row = {"an exact repetition": 1507, "a running last bar by its stamp": 1506}.get(case.name, 1154)
    assert re.search(rf"WARN row_contract .*feed\.csv row {row}, column .*, value .* \({problem}\)", said), (
        said
    )
    assert len(ONE_ROW) == 18


def test_no_defect_is_accepted_in_silence_and_the_catalogue_is_no_shorter_than_it_was() -> None:
    assert [name for name, (rules, said) in outcomes().items() if not rules and not said] == []
    assert len(outcomes()) == len(CASES) >= 75


def test_defects_of_different_causes_get_different_diagnoses() -> None:
    confused = [
        (one.name, other.name)
        for one in CASES
        for other in CASES
        if (one.rules, one.cause) != (other.rules, other.cause)
        and one.rules == other.rules
        and re.search(one.cause, flat(outcomes()[other.name][1]))
    ]
    # The low that slipped alone is told as every slip is, and more exactly.
    assert confused == [("decimal point, / 10", "decimal point, low only")]
    assert len({(case.rules, case.cause) for case in CASES}) >= 65


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_no_defect_is_accepted_without_a_finding(name: str, tmp_path: Path) -> None:
    case = Case(name, HARMLESS[name], (), "", "")
    assert outcome(case, tmp_path) == ((), "")
    assert clean().height == 2 * SESSIONS
    assert clean()["volume"].equals(clean()["volume"].round())


def test_the_undamaged_feed_as_parquet_has_no_finding(tmp_path: Path) -> None:
    typed = clean().with_columns(pl.col("session").cast(pl.Datetime("ns")))
    assert outcome(Case("typed", lambda _: typed, (), "", "", "feed.parquet"), tmp_path) == ((), "")
