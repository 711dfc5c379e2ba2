"""What the row contract left out of a feed reaches the quarantine through every panel that is made of the feed."""

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from quant_assets.common.roll_settings import RollsConfig
from quant_assets.common.settings import SyntheticSource, UniverseConfig
from quant_assets.common.store import Table
from quant_assets.lineage.artifact import Held, Partitions
from quant_assets.lineage.declaring import Product
from quant_assets.lineage.stages import bar_stages, listing_stages, roll_stages
from quant_assets.market.actions import ACTIONS_SCHEMA
from quant_assets.market.listings import LISTINGS, aside_by_instrument
from quant_assets.market.revisions import vintage
from quant_assets.market.set_aside import ASIDE
from quant_assets.market.sources.sources import read_year
from quant_assets.market.synthetic import generate

ALWAYS = datetime(2000, 1, 1, tzinfo=UTC)
NO_ACTIONS = Held("u/corporate_actions", Table(pl.DataFrame(schema=ACTIONS_SCHEMA)))


def spells(*told: tuple[str, str, date, date | None]) -> pl.DataFrame:
    """Listings of ``instrument_id, symbol, valid_from, valid_to``."""
    rows = [
        (name, symbol, "XNYS", first, last, None, None, ALWAYS, "by hand")
        for name, symbol, first, last in told
    ]
    return pl.DataFrame(rows, schema=LISTINGS.schema, orient="row")


def feed(
    folder: Path, calendar: str, names: dict[str, str], broken: str
) -> tuple[UniverseConfig, Partitions]:
    """A year of twelve names, of one of which every tenth close is missing."""
    made = generate(
        SyntheticSource(kind="synthetic", seed=5, n_symbols=12),
        calendar,
        date(2023, 1, 3),
        date(2023, 12, 29),
    ).with_columns(pl.col("symbol").replace(names))
    tenth = (pl.col("symbol") == broken) & (pl.int_range(pl.len()).over("symbol") % 10 == 0)
    made.with_columns(close=pl.when(~tenth).then("close")).write_parquet(folder / "feed.parquet")
    universe = UniverseConfig.model_validate(
        {
            "name": "test",
            "source": {"kind": "parquet", "path": str(folder / "feed.parquet")},
            "calendar": calendar,
            "start": "2023-01-03",
            "end": "2023-12-29",
        }
    )
    return universe, Partitions({"2023": Held("u/raw_bars", vintage(read_year(universe, "2023")))})


def aside_of(made: Product) -> pl.DataFrame:
    return made.facts["symbols_set_aside"].select("symbol", "rule")


def test_a_listed_name_with_many_broken_rows_is_set_aside_as_without_listings(tmp_path: Path) -> None:
    universe, raw = feed(tmp_path, "XNYS", {}, "S003")
    told = spells(*((f"id-{n}", f"S{n:03d}", date(2020, 1, 1), None) for n in range(12)))
    listings = Held("u/listings", Table(told))
    listed = Held("u/listed_bars", listing_stages.listed_bars(raw, listings).value)
    made = bar_stages.quarantined_bars(listed, NO_ACTIONS, listings, universe=universe)
    assert aside_of(made).rows() == [("S003", "quarantined_fraction")]
    plain = bar_stages.quarantined_bars(raw, NO_ACTIONS, universe=universe)
    assert aside_of(made).equals(aside_of(plain))
    assert (
        made.facts["no_bars"] == plain.facts["no_bars"] == 1
    )  # of a name that goes as a whole one entry a year


def test_a_root_whose_contract_has_many_broken_rows_is_set_aside(tmp_path: Path) -> None:
    names = {f"S{n:03d}": f"{root}Z23" for n, root in enumerate("ABCDEGIKLMNO")}
    universe, raw = feed(tmp_path, "CMES", names, "EZ23")
    futures = universe.model_copy(update={"rolls": RollsConfig()})
    rolls = Held("u/rolls", roll_stages.rolls(raw, universe=futures).value)
    front = Held("u/front_bars", roll_stages.front_bars(raw, rolls, universe=futures).value)
    made = bar_stages.quarantined_bars(front, NO_ACTIONS, universe=futures)
    assert aside_of(made).rows() == [("E", "quarantined_fraction")]


@pytest.mark.parametrize(
    ("symbol", "session", "name"),
    [
        ("FB", date(1999, 6, 1), "FB:19970102"),  # another company's then
        ("FB", date(2013, 6, 3), "FB"),
        ("FB", date(2005, 6, 1), "FB:unlisted"),  # nobody's
        ("FB", None, "FB"),
        ("XYZ", date(1999, 6, 1), "XYZ"),  # no listing says anything of it
        (None, date(1999, 6, 1), None),
    ],
)
def test_a_broken_row_is_of_the_instrument_that_a_bar_would_be_of(
    symbol: str | None, session: date | None, name: str | None
) -> None:
    told = spells(("old", "FB", date(1997, 1, 2), date(2001, 5, 1)), ("new", "FB", date(2012, 5, 18), None))
    row = {**dict.fromkeys(ASIDE), "symbol": symbol, "session": session, "n_rows": 1}
    twice = pl.DataFrame([row, row], schema=ASIDE)  # several rows may have one session
    assert aside_by_instrument(twice, told)["symbol"].to_list() == [name, name]
