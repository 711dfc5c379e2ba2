"""Features in blocks have the bits of the whole panel, and a failed run leaves the output as it was."""

from pathlib import Path

import polars as pl
import pytest

from quant_assets.common.errors import FeatureError
from quant_assets.features import compute
from quant_assets.features.blocks import compute_in_blocks
from quant_assets_tests.features.panels import same_bits
from quant_assets_tests.features.wide_panels import wide_irregular

BARS = wide_irregular()


def stored(folder: Path, bars: pl.DataFrame) -> Path:
    file = folder / "bars.parquet"
    bars.write_parquet(file, row_group_size=500)
    return file


@pytest.mark.parametrize("order", ["symbol", "session"])
@pytest.mark.parametrize("pack", ["technical_v1", "stationary_v1", "cross_sectional_v1"])
def test_blocks_have_the_bits_of_the_whole_panel(tmp_path: Path, pack: str, order: str) -> None:
    file = stored(tmp_path, BARS.sort(order, "symbol", "session"))
    whole = compute(BARS, pack)
    for rows, name in ((700, "out.parquet"), (3_000, "parts")):
        run = compute_in_blocks(file, tmp_path / name, pack, block_rows=rows)
        assert run.blocks > 1
        assert run.sorted_first == (order == "session")
        assert same_bits(pl.read_parquet(run.out), whole)
    assert {path.name for path in tmp_path.iterdir()} == {"bars.parquet", "out.parquet", "parts"}


@pytest.mark.parametrize("order", ["symbol", "session"])
def test_a_bar_given_twice_is_refused_with_block_and_file_and_the_output_stays(
    tmp_path: Path, order: str
) -> None:
    file = stored(tmp_path, pl.concat([BARS, BARS[4_000:4_001]]).sort(order, "symbol", "session"))
    out = tmp_path / "out.parquet"
    out.write_bytes(b"earlier")
    with pytest.raises(FeatureError, match=r"bars\.parquet, block \d+ of \d+ .*one bar per symbol"):
        compute_in_blocks(file, out, block_rows=700)
    assert out.read_bytes() == b"earlier"
    assert {path.name for path in tmp_path.iterdir()} == {"bars.parquet", "out.parquet"}
