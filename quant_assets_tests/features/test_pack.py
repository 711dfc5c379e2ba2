"""Packs as declared data: the count, the order, the metadata and the fingerprint."""

import subprocess
import sys
from dataclasses import replace

import pytest

from quant_assets.common.errors import FeatureError
from quant_assets.common.provenance import closure_of_modules
from quant_assets.features import Feature, Pack, compute, find_pack, packs, register
from quant_assets_tests.features.panels import NAMES, TECHNICAL, random_walks
from quant_assets_tests.features.wide_panels import values_digest

DECLARATION = "2f007f25ce413a433a7fed7810f9bed36c4640f351f9f99a51838a6f27376200"

WARM_UPS = {
    "nma_9": 8, "nma_20": 19, "nma_50": 49, "nma_200": 199, "bb_pct": 19, "bb_width": 19,
    "volume_z_20": 19, "volume_z_50": 49, "rsi_14": 270, "rsi_21": 410, "roc_10": 10, "roc_20": 20,
    "macd": 290, "macd_signal": 290, "macd_hist": 290, "adx_14": 300, "plus_di_14": 270, "minus_di_14": 270,
    "atr_14": 270, "sigma_20": 20, "sigma_50": 50, "stoch_k": 13, "stoch_d": 15, "obv": 20, "obv_ema": 190,
    "ret_1": 1, "ret_5": 5, "ret_10": 10, "ret_20": 20,
}  # fmt: skip


def test_technical_v1_has_29_features_in_the_agreed_order_with_these_warm_ups() -> None:
    assert len(NAMES) == 29
    assert {f.name: f.warm_up for f in TECHNICAL.features} == WARM_UPS
    assert list(NAMES) == list(WARM_UPS)
    assert TECHNICAL.version == 1
    assert TECHNICAL.warm_up == 410


def test_the_promise_of_technical_v1_is_frozen() -> None:
    # names, order, warm-ups, units and formulas; a change is a new pack, not a new value here
    assert TECHNICAL.declaration == DECLARATION


PROMISES = {
    "cross_sectional_v1": (
        "rank_ret_1 rank_ret_5 rank_ret_20 rank_momentum_12_1 rank_sigma_60 rank_log_volume_z_20 rank_nma_60 "
        "rank_high_252 z_ret_1 z_ret_5 z_ret_20 z_momentum_12_1 z_sigma_60 z_log_volume_z_20 z_nma_60 z_high_252",
        (1, 5, 20, 252, 60, 19, 59, 251, 1, 5, 20, 252, 60, 19, 59, 251),
        "c51cdf5518a164a939711f71201783bf77f0f17552341bd510f3924bfb162a6c",
    ),
    "stationary_v1": (
        "log_volume_z_20 log_volume_z_60 ret_1_z_60 ret_5_z_250 ret_20_z_250 detrended_20 detrended_60 band_20 "
        "vw_momentum_20 vw_momentum_60 volatility_ratio_20_120 gap_20 money_flow_20 high_252",
        (19, 59, 60, 254, 269, 20, 59, 19, 20, 60, 120, 20, 19, 251),
        "fb9be8ae5d9dc7f64c0654653ca744c0075fa4013f51dcbdeae6a2f4b981125e",
    ),
    "technical_v1": (" ".join(WARM_UPS), tuple(WARM_UPS.values()), DECLARATION),
}
# Every bit of the values over bars made by integer arithmetic.
VALUES = {
    "cross_sectional_v1": "df08de6df5a4670d0171c42e8a329770ca062275813d8d199ce2e564f91b76f8",
    "stationary_v1": "9e359f565b421c39a416696bce7525e0c028ed94baa02267b569aa09ff21d073",
}
every_pack = pytest.mark.parametrize("name", PROMISES)


def test_these_packs_are_registered_and_no_column_is_in_two_of_them() -> None:
    assert list(packs()) == list(PROMISES)
    columns = [name for pack in packs().values() for name in pack.names]
    assert len(columns) == len(set(columns)) == 16 + 14 + 29


@every_pack
def test_the_promise_of_every_pack_is_frozen(name: str) -> None:
    names, warm_ups, declaration = PROMISES[name]
    pack = packs()[name]
    assert pack.names == tuple(names.split())
    assert tuple(feature.warm_up for feature in pack.features) == warm_ups
    assert pack.declaration == declaration


@pytest.mark.parametrize("name", VALUES)
def test_the_values_of_a_pack_do_not_change_under_its_name(name: str) -> None:
    assert values_digest(name) == VALUES[name]


@every_pack
def test_the_fingerprint_covers_exactly_the_sources_behind_the_kernel(name: str) -> None:
    pack = packs()[name]
    module = pack.kernel.partition(":")[0]
    behind = closure_of_modules(module)
    kernels = tuple(name for name in behind.modules if ".features.kernels." in name)
    assert {module, "quant_assets.features.kernels.compilation"} <= set(kernels)
    script = f"import sys, {module}; print(*sorted(m for m in sys.modules if '.features.kernels.' in m))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert tuple(run.stdout.split()) == kernels
    assert {"numba", "numpy"} <= {library.partition("==")[0] for library in behind.libraries}
    assert replace(pack, code=behind.modules).fingerprint == pack.fingerprint


def test_a_pack_is_not_touched_by_the_kernels_of_another() -> None:
    flow = "quant_assets.features.kernels.indicators"
    holding = {
        name
        for name, pack in packs().items()
        if flow in closure_of_modules(pack.kernel.partition(":")[0]).modules
    }
    assert holding == {"technical_v1"}


def test_the_fingerprint_changes_with_a_further_library() -> None:
    assert replace(TECHNICAL, libraries=("scipy",)).fingerprint != TECHNICAL.fingerprint


def test_the_declaration_covers_the_cross_section() -> None:
    cross = packs()["cross_sectional_v1"]
    across = cross.cross_section
    assert across is not None
    steady = replace(across.inputs[0], formula="another")
    others = (
        replace(across, min_symbols=11),
        replace(across, inputs=(steady, *across.inputs[1:])),
        replace(across, reads=(("ret_1", "ret_1"), *across.reads[1:])),
    )
    changed = {replace(cross, cross_section=other).declaration for other in others}
    assert len(changed | {cross.declaration}) == 4
    moved = replace(across, step="quant_assets.features.kernels.cross_sectional:middle")
    assert replace(cross, cross_section=moved).fingerprint != cross.fingerprint


def test_the_first_stage_is_a_pack_of_its_inputs() -> None:
    cross = packs()["cross_sectional_v1"]
    assert cross.input_pack.name == "cross_sectional_inputs_v1"
    assert len(cross.input_pack.features) == 8
    assert TECHNICAL.input_pack is TECHNICAL


@every_pack
def test_every_feature_states_its_formula_unit_and_source(name: str) -> None:
    for feature in packs()[name].features:
        assert len(feature.formula) > 8, feature.name
        assert feature.source, feature.name
        assert feature.unit, feature.name
        assert feature.lookback <= feature.warm_up


def test_the_fingerprint_is_the_same_in_another_process() -> None:
    script = "from quant_assets.features import packs; print(*(p.fingerprint for p in packs().values()))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == [pack.fingerprint for pack in packs().values()]
    assert len(TECHNICAL.fingerprint) == 40


@pytest.mark.parametrize(
    "change", [{"warm_up": 271}, {"formula": "another"}, {"unit": "fraction"}, {"name": "rsi"}]
)
def test_the_fingerprint_changes_with_the_declaration_of_one_feature(change: dict[str, object]) -> None:
    at = NAMES.index("rsi_14")
    features = list(TECHNICAL.features)
    features[at] = replace(features[at], **change)  # type: ignore[arg-type]
    assert replace(TECHNICAL, features=tuple(features)).fingerprint != TECHNICAL.fingerprint


def test_the_fingerprint_changes_with_the_order_and_with_the_code() -> None:
    reordered = replace(TECHNICAL, features=TECHNICAL.features[::-1])
    other_code = replace(TECHNICAL, code=("quant_assets.features.kernels.indicators",))
    assert len({TECHNICAL.fingerprint, reordered.fingerprint, other_code.fingerprint}) == 3


def test_machine_code_is_kept_under_the_fingerprint_of_all_kernel_sources() -> None:
    from quant_assets.features.kernels import technical
    from quant_assets.features.kernels.compilation import machine_code_folder, sources_fingerprint

    compute(random_walks(1, 30))
    assert machine_code_folder().endswith(sources_fingerprint())
    kept = technical.technical_v1.stats.cache_path  # type: ignore[attr-defined]
    assert kept.startswith(machine_code_folder())


def test_a_misspelt_pack_is_answered_with_the_closest_name() -> None:
    with pytest.raises(FeatureError, match=r"'tecnical_v1'.*did you mean 'technical_v1'\?"):
        compute(random_walks(1, 30), "tecnical_v1")


def test_an_unknown_pack_is_answered_with_the_list() -> None:
    with pytest.raises(FeatureError, match=r"expected one of .*technical_v1"):
        find_pack("zzz")


def test_a_registered_name_cannot_get_another_definition() -> None:
    assert register(TECHNICAL) is TECHNICAL
    with pytest.raises(FeatureError, match="'technical_v2'"):
        register(replace(TECHNICAL, description="something else"))
    assert packs()["technical_v1"] is TECHNICAL


def test_the_registry_cannot_be_written_through_its_view() -> None:
    with pytest.raises(TypeError):
        packs()["mine_v1"] = TECHNICAL  # type: ignore[index]


def test_a_pack_with_a_repeated_name_or_without_features_is_refused() -> None:
    with pytest.raises(FeatureError, match=r"repeated \['rsi_14'\]"):
        replace(TECHNICAL, features=(*TECHNICAL.features, TECHNICAL.features[8]))
    with pytest.raises(FeatureError, match="found none"):
        replace(TECHNICAL, features=())


def test_a_pack_name_must_end_with_its_version() -> None:
    with pytest.raises(FeatureError, match="ends with its version"):
        replace(TECHNICAL, name="technical")


def test_a_warm_up_shorter_than_the_lookback_is_refused() -> None:
    with pytest.raises(FeatureError, match="lookback 5, warm_up 4"):
        Feature("x", 4, "fraction", "close", "none", 5)


def test_a_pack_whose_kernel_does_not_exist_is_refused_when_it_is_computed() -> None:
    broken = Pack(
        "broken_v1", "none", TECHNICAL.features[:1], "quant_assets.features.kernels.technical:nothing"
    )
    with pytest.raises(FeatureError, match="technical:nothing"):
        compute(random_walks(1, 30), broken)


def test_a_cross_section_whose_step_does_not_exist_is_refused_when_it_is_computed() -> None:
    cross = packs()["cross_sectional_v1"]
    across = cross.cross_section
    assert across is not None
    broken = replace(
        cross, cross_section=replace(across, step="quant_assets.features.kernels.indicators:nothing")
    )
    with pytest.raises(FeatureError, match=r"importable cross-section step.*indicators:nothing"):
        compute(random_walks(1, 30), broken)
