"""What the columns of stored tables are: one vocabulary, and features by their pack."""

import pytest

from quant_assets.common.errors import ConfigurationError
from quant_assets.features.pack import packs
from quant_assets.lineage.columns import Column, column_of, declare
from quant_assets.market.actions import ACTIONS_SCHEMA
from quant_assets.market.listings import LISTINGS
from quant_assets.market.memberships import MEMBERSHIPS
from quant_assets.market.reconciliation import LABELLED_SCHEMA
from quant_assets.market.rolls import ROLLS_SCHEMA


@pytest.mark.parametrize(
    "schema", [ACTIONS_SCHEMA, LISTINGS.schema, MEMBERSHIPS.schema, LABELLED_SCHEMA, ROLLS_SCHEMA]
)
def test_every_column_of_a_declared_schema_has_a_description_and_a_unit(schema: dict[str, object]) -> None:
    told = {name: column_of(name) for name in schema}
    assert [name for name, column in told.items() if column is None or not all(column)] == []


def test_every_feature_of_every_pack_is_described_by_its_formula() -> None:
    for pack in packs().values():
        for feature in pack.features:
            column = column_of(feature.name)
            assert column is not None
            assert column.unit


def test_a_name_means_the_same_wherever_it_stands() -> None:
    declare("close", Column("Last price of the session.", "currency of the listing"))
    with pytest.raises(ConfigurationError, match="choose another name"):
        declare("close", Column("Time at which the session ends.", "UTC"))
    assert column_of("path_12") == column_of("path_0")
    assert column_of("a_name_that_nobody_declared") is None
