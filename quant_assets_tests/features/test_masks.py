"""The guard in front of consumers: a masked value is an error, never a number."""

import polars as pl
import pytest

from quant_assets.common.errors import FeatureError
from quant_assets.features import compute, require_unmasked
from quant_assets_tests.features.panels import random_walks

FEATURES = compute(random_walks(2, 40))


def test_features_past_their_warm_up_pass_as_they_are() -> None:
    late = FEATURES.filter(pl.col("session").to_physical() >= 20)
    assert require_unmasked(late, ["ret_20", "nma_20"]) is late


def test_a_masked_value_is_refused_with_the_first_row_and_the_count() -> None:
    with pytest.raises(FeatureError, match=r"ret_5 masked at S000 1970-01-01 \(10 of 80 rows\)"):
        require_unmasked(FEATURES, ["ret_5"])


def test_several_masked_features_are_named_up_to_three() -> None:
    with pytest.raises(FeatureError, match=r"4 of 4 features.*ret_1 .*ret_5 .*ret_10 .*and 1 more features"):
        require_unmasked(FEATURES, ["ret_1", "ret_5", "ret_10", "ret_20"])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_are_no_values_either(value: float) -> None:
    frame = pl.DataFrame({"x": [1.0, value]})
    with pytest.raises(FeatureError, match=rf"x {value} at row 1 \(1 of 2 rows\)"):
        require_unmasked(frame, ["x"])


def test_a_missing_column_no_name_and_text_are_refused() -> None:
    with pytest.raises(FeatureError, match="no column ret_2"):
        require_unmasked(FEATURES, ["ret_2"])
    with pytest.raises(FeatureError, match="no name"):
        require_unmasked(FEATURES, [])
    with pytest.raises(FeatureError, match="symbol of dtype String"):
        require_unmasked(FEATURES, ["symbol"])
