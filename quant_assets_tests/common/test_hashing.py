"""Content hashing: logical content counts, file formats and comments do not."""

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from quant_assets.common.hashing import canonical_json, combined_fingerprint, digests_by, frame_digest
from quant_assets.common.provenance import closure_of_modules

FRAME = pl.DataFrame(
    {
        "symbol": ["A", None, "bc"],
        "session": [date(2020, 1, 2), date(2020, 1, 3), date(2020, 1, 6)],
        "x": [1.0, None, float("nan")],
        "flag": [True, False, None],
        "at": [datetime(2020, 1, 2, tzinfo=UTC)] * 3,
    }
)


def test_the_digest_of_a_frame_is_a_literal_that_no_release_may_change() -> None:
    frame = pl.DataFrame({"symbol": ["A", "B"], "close": [1.5, 2.5]})
    assert frame_digest(frame) == "e99740383b741a93dcb7dc746fde5273a259513d953469e5a12354329644c41a"


@pytest.mark.parametrize(
    "other",
    [
        FRAME.rename({"x": "y"}),
        FRAME.with_columns(pl.col("x").cast(pl.Float32)),
        FRAME.with_columns(pl.col("x").fill_null(0.0)),
        FRAME.with_columns(pl.col("symbol").fill_null("")),
        FRAME.with_columns(pl.col("flag").fill_null(False)),
        FRAME.reverse(),
        FRAME.head(2),
        FRAME.select(FRAME.columns[::-1]),
        FRAME.with_columns(symbol=pl.Series(["Ab", None, "c"])),
    ],
)
def test_any_change_of_content_changes_the_digest(other: pl.DataFrame) -> None:
    assert frame_digest(other) != frame_digest(FRAME)


def test_chunks_and_values_under_nulls_do_not_change_the_digest() -> None:
    chunked = pl.concat([FRAME.head(1), FRAME.tail(2)], rechunk=False)
    hidden = FRAME.with_columns(x=pl.when(pl.col("x").is_not_null()).then(pl.col("x")))
    assert frame_digest(chunked) == frame_digest(hidden) == frame_digest(FRAME)


def test_metadata_is_part_of_the_identity() -> None:
    assert frame_digest(FRAME, {"recipe": "a"}) != frame_digest(FRAME, {"recipe": "b"})


def test_canonical_json_sorts_keys_and_refuses_nan() -> None:
    assert canonical_json({"b": 1, "a": "é"}) == '{"a":"é","b":1}'.encode()
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json({"x": float("nan")})


def test_a_comment_or_docstring_keeps_the_code_version_and_a_constant_changes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "rules.py"
    monkeypatch.syspath_prepend(tmp_path)

    def version(source: str) -> str:
        module.write_text(source)
        closure_of_modules.cache_clear()
        return closure_of_modules("rules").digest

    before = version('def f():\n    """Old."""\n    return 1\n')
    assert version('def f():\n    """New."""\n    return 1  # why\n') == before
    assert version('def f():\n    """Old."""\n    return 2\n') != before


def test_a_fingerprint_fits_a_dagster_tag() -> None:
    assert len(combined_fingerprint(["a" * 100, "b"])) <= 63
    assert combined_fingerprint(["ab", "c"]) != combined_fingerprint(["a", "bc"])


def test_digests_of_runs_are_those_of_each_part_by_itself() -> None:
    frame = pl.DataFrame(
        {
            "symbol": ["A", "A", "B", "C", "C"],
            "session": [date(2024, 1, k) for k in (2, 3, 2, 2, 3)],
            "close": [1.5, None, -0.0, float("nan"), 7.25],
            "source": ["one", "", None, "zwei é", "x"],
            "used": [True, False, True, None, True],
        }
    )
    parts = frame.partition_by("symbol", maintain_order=True)
    assert digests_by(frame, "symbol") == {part["symbol"][0]: frame_digest(part) for part in parts}
    assert digests_by(frame.clear(), "symbol") == {}
