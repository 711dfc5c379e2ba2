"""Configuration that was made to harm: one short error each, before anything is built, and no secret in any."""

import shutil
import time
from itertools import pairwise
from pathlib import Path

import pytest

from quant_assets.common.configuration import MAX_BYTES, read_yaml
from quant_assets.common.errors import ConfigurationError
from quant_assets.lineage.configured import load_settings, require_calendars, require_whole

SHIPPED = Path(__file__).resolve().parents[2] / "configs"
UNIVERSE = "source: {kind: bokeh_sampledata}\nstart: 2000-01-03\nend: 2001-01-03\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED, tmp_path / "configs"))


def refusal(folder: Path, file: str, content: str | bytes) -> str:
    """The one message about a file."""
    (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    started = time.monotonic()
    with pytest.raises(ConfigurationError) as caught:
        require_whole(load_settings(folder, folder / "nowhere"))
    assert time.monotonic() - started < 10
    assert len(str(caught.value)) < 1000
    assert caught.value.__suppress_context__ or caught.value.__cause__ is None
    return str(caught.value)


def nine_levels_of_nine() -> str:
    """The billion laughs, 0.4 kB: 9^9 values when the aliases are written out."""
    names = "abcdefghi"
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{n}: &{n} [{', '.join([f'*{m}'] * 9)}]" for m, n in pairwise(names)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (nine_levels_of_nine(), "more than 20000 values"),
        ("a: &a [*a]", "*a inside of what it names"),
        ("a: " + "[" * 5000, "a nest deeper than 16"),
        ("a: " + "{b: " * 5000, "a nest deeper than 16"),
        ("- " * 5000, "a nest deeper than 16"),
        ("a: b\0", "U+0000 in line 1"),
        ('a: "b\\0"', "U+0000"),
        ("a: \u202exyz", "U+202E"),
        ("owner: müller".encode("latin-1"), "byte 0xfc at offset 8"),
        ("owner: a".encode("utf-16"), "UTF-16"),
        ("# " + "x" * MAX_BYTES, f"more than {MAX_BYTES} bytes"),
        ("a: !!python/object/apply:os.system [id]", "the tag"),
        ("a: !!binary '='", "the tag"),
        ("a: 2024-13-45", "month must be in 1..12"),
        ("a: " + "9" * 5000, "a number of 5000 digits"),
        ("a: {b: 1, b: 2}", "the key 'b' twice"),
        ("a: 'x", "line 1"),
        ("a: 1\n---\nb: 2", "another document"),
    ],
)
def test_a_file_that_was_made_to_harm_is_refused_before_it_is_built(
    folder: Path, content: str | bytes, said: str
) -> None:
    text = refusal(folder, "monitoring.yaml", content)
    assert "monitoring.yaml" in text
    assert said in text


def test_an_alias_within_bounds_is_what_it_names(tmp_path: Path) -> None:
    file = tmp_path / "some.yaml"
    file.write_text("a: &a {b: 1}\nc: {<<: *a, d: 2}\n")
    assert read_yaml(file) == {"a": {"b": 1}, "c": {"b": 1, "d": 2}}


def test_a_variable_is_bounded_too_and_may_hold_any_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "some.yaml"
    file.write_text("a: ${VALUE}")
    for value, read in (
        ("%p@ss: 'word", "%p@ss: 'word"),
        ("[1, 2]", [1, 2]),
        ("&a [*a]", "&a [*a]"),
        ("x: y", "x: y"),
    ):
        monkeypatch.setenv("VALUE", value)
        assert read_yaml(file) == {"a": read}


SECRET = "hunter2"


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("monitoring.yaml", f"password: {SECRET}"),
        ("monitoring.yaml", f"dns: postgresql://me:{SECRET}@host/db"),
        ("monitoring.yaml", f"retraining: {{api_token: {SECRET}}}"),
        ("monitoring.yaml", f"retraining: {SECRET}: {SECRET}"),
        ("monitoring.yaml", f"retraining: {{cooldown_days: 'postgresql://me:{SECRET}@host/db'}}"),
        (
            "universes/us_tech.yaml",
            UNIVERSE.replace("bokeh_sampledata", f"postgres, dsn: [{SECRET}], table: t"),
        ),
        (
            "universes/us_tech.yaml",
            UNIVERSE.replace("bokeh_sampledata", f"postgres, dsn: x, tabel: {SECRET}"),
        ),
        ("universes/us_tech.yaml", UNIVERSE.replace("bokeh_sampledata", f"yahoo, password: {SECRET}")),
        ("universes/us_tech.yaml", f"source: {{password: {SECRET}}}"),
        ("universes/us_tech.yaml", f"source: ${{NOT_SET_ANYWHERE:-{SECRET}\n"),
        ("strategies/pure_noise.yaml", f"password: {SECRET}\nuniverse: 'x"),
        ("strategies/pure_noise.yaml", f"universe: us_tech\ncosts: {{capital: 'password={SECRET}'}}"),
    ],
)
def test_no_error_shows_a_secret(folder: Path, file: str, content: str) -> None:
    assert SECRET not in refusal(folder, file, content).replace(f"key '{SECRET}", "")


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("strategies/pure_noise.yaml", "universe: us_tech\nowner: joe", ["'owner'", "'joe'", "team:"]),
        ("strategies/pure_noise.yaml", "universe: us_tech\nname: other", ["'name'", "another name"]),
        ("strategies/gates.yaml", "universe: us_tech", ["'gates'", "the platform's own"]),
        ("strategies/us_tech_raw_bars.yaml", "universe: us_tech", ["'us_tech_raw_bars'"]),
        (
            "strategies/pure_noise.yaml",
            "universe: us_tech\nvalidation: {n_groups: 32, n_test_groups: 16}",
            ["601080390 splits", "at most 1000"],
        ),
        ("strategies/pure_noise.yaml", f"universe: us_tech\nseed: {10**20}", ["'seed'"]),
        ("universes/us_tech.yaml", UNIVERSE + "symbols: []", ["'symbols'", "at least 1"]),
        ("universes/us_tech.yaml", UNIVERSE + "symbols: [IBM, IBM]", ["IBM more than once"]),
        ("universes/us_tech.yaml", UNIVERSE + "symbols: [IBM, TRUE]", ["'symbols.1'", "quote it", "True"]),
        ("universes/us_tech.yaml", UNIVERSE + "symbols: [NO]", ["quote it", "False"]),
        ("universes/us_tech.yaml", UNIVERSE + "symbols: [NULL]", ["quote it", "None"]),
        ("universes/us_tech.yaml", UNIVERSE + "symbols: [0700]", ["quote it", "448"]),
        ("universes/us_tech.yaml", UNIVERSE + "symbols: ['=1+1']", ["letters, digits", "'=1+1'"]),
        ("universes/us_tech.yaml", UNIVERSE + "symbols: ['@SUM']", ["letters, digits"]),
        ("universes/us_tech.yaml", UNIVERSE + "symbols: ['A B']", ["letters, digits"]),
        ("universes/us_tech.yaml", UNIVERSE + f"symbols: [{'A' * 33}]", ["letters, digits"]),
        ("universes/us_tech.yaml", UNIVERSE.replace("2001-01-03", "9999-12-31"), ["'end'", "2100-12-31"]),
        ("universes/us_tech.yaml", UNIVERSE.replace("2000-01-03", "0001-01-01"), ["'start'", "1900-01-01"]),
        ("universes/us_tech.yaml", UNIVERSE + "calendar: 'N O'", ["'calendar'"]),
        (
            "universes/us_tech.yaml",
            UNIVERSE.replace("bokeh_sampledata", "csv, path: x, delimiter: '\"'"),
            ["delimiter"],
        ),
    ],
)
def test_what_could_not_be_built_does_not_validate(
    folder: Path, file: str, content: str, said: list[str]
) -> None:
    text = refusal(folder, file, content)
    assert [part for part in said if part not in text] == []


def test_legal_tickers_that_look_like_other_things_are_read_as_text(folder: Path) -> None:
    names = [
        "TRUE",
        "NO",
        "NULL",
        "NA",
        "NAN",
        "INF",
        "ON",
        "BRK.B",
        "RDS-A",
        "BF/B",
        "^GSPC",
        "ES=F",
        "0700.HK",
        "7203",
    ]
    quoted = ", ".join(f"'{name}'" for name in names)
    (folder / "universes/us_tech.yaml").write_text(f"{UNIVERSE}symbols: [{quoted}]")
    assert load_settings(folder, folder / "nowhere").universes["us_tech"].symbols == tuple(names)
    (folder / "universes/us_tech.yaml").write_text(f"{UNIVERSE}symbols: [NA, NAN, INF]")
    assert load_settings(folder, folder / "nowhere").universes["us_tech"].symbols == ("NA", "NAN", "INF")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (UNIVERSE + "calendar: NOPE", ["universe us_tech", "'NOPE'", "did you mean"]),
        (
            UNIVERSE.replace("2000-01-03", "2000-12-30").replace("2001-01-03", "2001-01-01"),
            ["sessions of XNYS", "none"],
        ),
    ],
)
def test_a_calendar_without_sessions_does_not_validate(folder: Path, text: str, said: list[str]) -> None:
    (folder / "universes/us_tech.yaml").write_text(text)
    settings = load_settings(folder, folder / "nowhere")
    with pytest.raises(ConfigurationError) as caught:
        require_calendars(settings)
    assert [part for part in said if part not in str(caught.value)] == []
