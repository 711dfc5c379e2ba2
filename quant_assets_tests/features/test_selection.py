"""A strategy chooses packs by name: unknown, repeated and colliding ones are refused where they are written."""

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import yaml

from quant_assets.common.errors import ConfigurationError, FeatureError
from quant_assets.features import Feature, Pack, compute, packs
from quant_assets.features import pack as registry
from quant_assets.features.pack import join_packs, joined_names, selected_packs
from quant_assets.lineage.configured import load_settings, require_whole
from quant_assets_tests.e2e.lineage import write_configuration
from quant_assets_tests.features.panels import random_walks

TECHNICAL = packs()["technical_v1"]


def pack_of(name: str, *columns: str) -> Pack:
    features = tuple(Feature(c, 0, "fraction", "close / close", "made for this test", 0) for c in columns)
    return Pack(name, "For this test.", features, "quant_assets.features.kernels.technical:technical_v1")


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three packs beside the shipped ones, until the end of the test."""
    for pack in (pack_of("one_v1", "a", "b"), pack_of("two_v1", "c"), pack_of("three_v1", "b", "ret_1")):
        monkeypatch.setitem(registry._REGISTRY, pack.name, pack)


def settings_with(folder: Path, content: object) -> object:
    """The packs of strategy ``edge`` as read from a file that says ``feature_packs: content``."""
    configs = write_configuration(folder / "configs")
    file = configs / "strategies" / "edge.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), "feature_packs": content}))
    return require_whole(load_settings(configs, folder / "home")).strategies["edge"].feature_packs


@pytest.mark.usefixtures("known")
def test_packs_are_read_in_the_order_of_the_file(tmp_path: Path) -> None:
    assert settings_with(tmp_path, ["two_v1", "one_v1"]) == ("two_v1", "one_v1")
    assert joined_names(["two_v1", "one_v1"]) == ("c", "a", "b")


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (["tecnical_v1"], r"edge.yaml, key 'feature_packs'.*did you mean 'technical_v1'\?.*tecnical_v1"),
        ([], r"one or more packs, each named once \(feature packs: none; .*found \[\]"),
        (["one_v1", "one_v1"], r"one_v1 more than once"),
        (["one_v1", "two_v1", "three_v1"], r"one_v1 and three_v1: b in both"),
        (["three_v1", "technical_v1"], r"three_v1 and technical_v1: ret_1 in both"),
        ("technical_v1", r"key 'feature_packs'.*valid tuple"),
    ],
)
def test_what_does_not_go_together_is_refused_when_the_file_is_read(
    tmp_path: Path, content: object, said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        settings_with(tmp_path, content)


def test_the_key_of_a_single_pack_is_refused_with_the_name_of_the_new_one(tmp_path: Path) -> None:
    configs = write_configuration(tmp_path / "configs")
    file = configs / "strategies" / "edge.yaml"
    file.write_text(file.read_text() + "feature_pack: technical_v1\n")
    with pytest.raises(ConfigurationError, match="did you mean 'feature_packs'"):
        require_whole(load_settings(configs, tmp_path / "home"))


def test_reading_the_configuration_loads_no_kernel(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom quant_assets.lineage.configured import load_settings\n"
        f"settings = load_settings(Path({str(write_configuration(tmp_path / 'configs'))!r}), Path('nowhere'))\n"
        "assert settings.strategies['edge'].feature_packs == ('technical_v1',)\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('numba', 'scipy', 'matplotlib', 'statsmodels')])\n"
    )
    read = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert read.stdout.strip() == "[]"


def test_features_of_two_packs_stand_side_by_side_row_for_row() -> None:
    bars = random_walks(3, 500)
    one = compute(bars, "technical_v1")
    other = one.select("symbol", "session", double=pl.col("ret_1") * 2)
    joined = join_packs({"technical_v1": one, "other_v1": other})
    assert joined.columns == ["symbol", "session", *TECHNICAL.names, "double"]
    assert joined.select(one.columns).equals(one)
    assert joined["double"].equals(joined["ret_1"] * 2, check_names=False)
    assert joined["double"].null_count() == 3  # masked stays null


def test_packs_over_different_bars_are_refused_with_what_differs() -> None:
    bars = random_walks(2, 30)
    one = bars.select("symbol", "session", a="close")
    other = bars.select("symbol", "session", c="open").slice(0, 59)
    with pytest.raises(FeatureError, match="60 and 59 rows; 1 only in one_v1, 0 only in two_v1"):
        join_packs({"one_v1": one, "two_v1": other})
    with pytest.raises(FeatureError, match="in the same order"):
        join_packs({"one_v1": one, "two_v1": bars.select("symbol", "session", c="open").reverse()})


def test_a_column_in_two_frames_is_refused_with_both_packs() -> None:
    frame = random_walks(1, 5).select("symbol", "session", a="close")
    with pytest.raises(FeatureError, match=r"feature packs one_v1 and two_v1.*a in both"):
        join_packs({"one_v1": frame, "two_v1": frame})
    with pytest.raises(FeatureError, match="found none"):
        join_packs({})


def test_a_single_pack_is_itself() -> None:
    assert selected_packs(["technical_v1"]) == (TECHNICAL,)
    assert joined_names(["technical_v1"]) == TECHNICAL.names
