"""Universes with several sources: which were read, which were not and why, and the years of all of them."""

from pathlib import Path

import polars as pl
import pytest

from quant_assets.common.configuration import parse, read_yaml
from quant_assets.common.errors import ConfigurationError, SourceError
from quant_assets.common.settings import UniverseConfig
from quant_assets.market.parsing import RAW_SCHEMA
from quant_assets.market.reconciliation import LABELLED_SCHEMA, reconcile
from quant_assets.market.sources.sources import read_all, read_bars, read_year
from quant_assets_tests.market.two_sources import END, START, feed

A = feed()


def stored(folder: Path, **sources: pl.DataFrame | str) -> UniverseConfig:
    """A universe of Parquet files: a frame is written, a text becomes the file's bytes, an empty one no file."""
    for label, content in sources.items():
        if isinstance(content, pl.DataFrame):
            content.write_parquet(folder / f"{label}.parquet")
        elif content:
            (folder / f"{label}.parquet").write_text(content)
    given = [{"kind": "parquet", "label": name, "path": str(folder / f"{name}.parquet")} for name in sources]
    return UniverseConfig.model_validate(
        {"name": "test", "source": given[0], "alternatives": given[1:], "start": START, "end": END}
    )


def test_every_source_is_read_and_labelled(tmp_path: Path) -> None:
    config = stored(tmp_path, main=A, second=A.with_columns(pl.col("volume") * 2))
    read = read_all(config)
    assert read.bars.schema == LABELLED_SCHEMA
    assert read.bars.height == 2 * A.height
    assert read.bars["source"].head(2).to_list() == ["main", "second"]
    assert read.column_mapping["second.close"] == "close"
    assert [(o.source, o.used, o.reason, o.n_bars) for o in read.outcomes] == [
        ("main", True, "", A.height), ("second", True, "", A.height),
    ]  # fmt: skip
    assert read_bars(config).bars.equals(A)
    assert read_bars(config).bars.schema == RAW_SCHEMA


def test_the_years_of_all_sources_add_up_and_reconcile_as_one(tmp_path: Path) -> None:
    config = stored(tmp_path, main=A, second=A.head(240)).model_copy(
        update={"start": START.replace(year=2021)}
    )
    assert config.years == ("2021", "2022")
    years = [read_year(config, year).bars for year in config.years]
    assert years[0].is_empty()
    assert years[0].schema == LABELLED_SCHEMA
    assert pl.concat(years).equals(read_all(config).bars)
    assert reconcile(pl.concat(years), config).bars.equals(read_bars(config).bars)


def test_a_universe_without_alternatives_keeps_its_columns(tmp_path: Path) -> None:
    assert read_year(stored(tmp_path, main=A), "2022").bars.schema == RAW_SCHEMA
    assert read_year(stored(tmp_path, main=A), "2022").outcomes == ()


def test_a_source_that_fails_is_left_out_with_its_error_on_record(tmp_path: Path) -> None:
    broken = A.with_columns(close=pl.lit(-1.0))
    config = stored(tmp_path, main="", torn="no parquet", broken=broken, last=A)
    read = read_all(config)
    assert set(read.bars["source"]) == {"last"}
    reasons = {o.source: o.reason for o in read.outcomes if not o.used}
    assert list(reasons) == ["main", "torn", "broken"]
    assert "expected at least one file" in reasons["main"]
    assert "expected a complete Parquet file" in reasons["torn"]
    assert "column close, value '-1.0' (not positive)" in reasons["broken"]
    assert any(note.startswith("main was not used: [QA201]") for note in read.notes)
    assert read_bars(config).bars.equals(A)
    assert read_year(config, "2022").outcomes == read.outcomes


def test_when_all_fail_one_error_lists_the_reason_of_each(tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match=r"main: \[QA201\].*second: \[QA201\].*complete Parquet.*first of them"
    ):
        read_all(stored(tmp_path, main="", second="no parquet"))


@pytest.mark.parametrize(("missing", "used"), [(5, True), (6, False)])
def test_a_source_is_stale_beyond_the_limit_of_sessions(tmp_path: Path, missing: int, used: bool) -> None:
    config = stored(tmp_path, main=A.head(A.height - missing), second=A)
    main, second = read_all(config).outcomes
    assert (main.used, second.used) == (used, True)
    if not used:
        assert "stale: ends 2022-12-21, 6 sessions before second (2022-12-30)" in main.reason
        assert "max_stale_sessions is 5" in main.reason
        assert set(read_bars(config).bars["session"]) == set(A["session"])


def test_a_source_that_lacks_symbols_gives_what_it_has(tmp_path: Path) -> None:
    both = pl.concat([A, feed("BBB", seed=2)])
    config = stored(tmp_path, main=A, second=both).model_copy(update={"symbols": ("AAA", "BBB")})
    main, second = read_all(config).outcomes
    assert (main.used, main.reason) == (True, "without BBB")
    assert second.reason == ""
    assert read_bars(config).bars["symbol"].n_unique() == 2
    torn = stored(tmp_path, main=A, second="torn").model_copy(update={"symbols": ("AAA", "BBB")})
    with pytest.raises(SourceError, match=r"symbols BBB.*none has them \(not used: second: \[QA201\]"):
        read_all(torn)


def test_a_changed_alternative_is_read_again(tmp_path: Path) -> None:
    config = stored(tmp_path, main=A, second=A)
    before = read_year(config, "2022").bars
    stored(tmp_path, second=A.with_columns(pl.col("volume") + 1))
    after = read_year(config, "2022").bars
    assert not after.equals(before)
    assert after.filter(source="main").equals(before.filter(source="main"))


@pytest.mark.parametrize(
    ("text", "diagnosis"),
    [
        ("alternatives: [{kind: csv, path: y}]", "two sources are called 'csv': give each its own `label:`"),
        ("alternatives: [{kind: csv, path: y, label: Big}]", "alternatives.0.csv.label"),
        ("alternatives: [{kind: csv, path: y, labl: b}]", "did you mean 'label'"),
        ("reconciliation: {price_tolerance: 5}", "did you mean 'price_tolerance_bps'"),
        ("reconciliation: {price_tolerance_bps: 0}", "reconciliation.price_tolerance_bps"),
        ("reconciliation: {volume_tolerance_fraction: 0.9}", "less than or equal to 0.5"),
        ("reconciliation: {max_stale_sessions: -1}", "max_stale_sessions"),
        ("reconciliation: {prefer: {volumes: [csv]}}", "'volume'"),
        ("reconciliation: {prefer: {volume: [cvs]}}", "did you mean 'csv'"),
        ("reconcilation: {}", "did you mean 'reconciliation'"),
    ],
)
def test_a_misspelt_or_impossible_setting_is_refused(tmp_path: Path, text: str, diagnosis: str) -> None:
    file = tmp_path / "u.yaml"
    file.write_text(
        f"name: test\nsource: {{kind: csv, path: x}}\nstart: 2022-01-01\nend: 2022-12-31\n{text}\n"
    )
    with pytest.raises(ConfigurationError, match=diagnosis):
        parse(UniverseConfig, read_yaml(file), file)


def test_compressed_files_of_a_pattern_with_a_mapping_are_set_up_in_yaml(tmp_path: Path) -> None:
    import gzip

    names = "Tag|Eröffnung|Hoch|Tief|Schluss|Umsatz\n"
    for symbol, close in (("AAA", 10.5), ("BBB", 10.6)):
        text = f"{names}2022-01-03|10|11|9|{close}|100\n"
        (tmp_path / f"{symbol}.csv.gz").write_bytes(gzip.compress(text.encode()))
    mapping = "{session: Tag, open: Eröffnung, high: Hoch, low: Tief, close: Schluss, volume: Umsatz}"
    file = tmp_path / "u.yaml"
    file.write_text(
        f"name: test\nsource: {{kind: csv, path: '{tmp_path}/*.csv.gz', delimiter: '|', columns: {mapping}}}\n"
        "start: 2022-01-01\nend: 2022-12-31\n"
    )
    read = read_bars(parse(UniverseConfig, read_yaml(file), file))
    assert read.bars.select("symbol", "close").rows() == [("AAA", 10.5), ("BBB", 10.6)]
    assert read.column_mapping["close"] == "Schluss"
