"""Settings on which no verdict could stand: refused when the configuration is read, or never promoted."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from annotated_types import Ge, Gt, Le
from typer.testing import CliRunner

from quant_assets.cli.main import app
from quant_assets.common.errors import ConfigurationError
from quant_assets.common.settings import AssetClass
from quant_assets.gates.gate import KINDS, gates_of
from quant_assets.gates.limits import (
    LOOSEST,
    STANDARD,
    CostMinima,
    DriftConfig,
    GatesConfig,
    GatesFile,
    MinimaConfig,
)
from quant_assets.lineage.configured import Settings, load_settings, require_whole
from quant_assets_tests.e2e.lineage import SHIPPED, Lineage, failed_steps

NAMES = ("planted_edge", "pure_noise", "us_tech_daily")


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED, tmp_path / "configs"))


def edited(configs: Path, file: str, **changes: Any) -> Settings:
    """The configuration with keys of one file replaced."""
    path = configs / file
    said = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**said, **changes}))
    return require_whole(load_settings(configs, configs / "nowhere"))


LOOSE: dict[str, dict[str, Any]] = {
    "costs.commission_bps": {"costs": {"commission_bps": 0}},
    "costs.half_spread_bps": {"costs": {"half_spread_bps": 0.1}},
    "costs.impact_coefficient": {"costs": {"impact_coefficient": 0}},
    "costs.borrow_fee_bps": {"costs": {"borrow_fee_bps": 0}},
    "costs.capital": {"costs": {"capital": 1.0}},  # of which impact is nothing
    "validation.embargo_sessions": {"validation": {"embargo_sessions": 0}},
    "validation.n_groups": {"validation": {"n_groups": 3, "n_test_groups": 2}},
    "validation.n_test_groups": {"validation": {"n_groups": 6, "n_test_groups": 1}},  # a single path
    "portfolio.gross_leverage": {"portfolio": {"gross_leverage": 1e-9}},
}


@pytest.mark.parametrize("key", LOOSE)
def test_a_loose_strategy_is_refused_by_file_key_and_minimum(configs: Path, key: str) -> None:
    with pytest.raises(
        ConfigurationError, match=rf"pure_noise\.yaml, key '{key}'.*minima of gates\.yaml"
    ) as error:
        edited(configs, "strategies/pure_noise.yaml", **LOOSE[key])
    assert "\n" not in str(error.value)


def test_an_embargo_that_was_enough_for_a_shorter_label_is_refused(configs: Path) -> None:
    """Labels that end inside the test window: the embargo follows the horizon."""
    with pytest.raises(ConfigurationError, match=r"embargo_sessions.*>= 20.*found 5"):
        edited(configs, "strategies/pure_noise.yaml", label={"horizon_sessions": 20})
    assert edited(
        configs,
        "strategies/pure_noise.yaml",
        label={"horizon_sessions": 20},
        validation={"embargo_sessions": 20},
    )


def test_every_shortfall_is_counted_in_one_message(configs: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"commission_bps.*\(and 3 more\)"):
        edited(
            configs, "strategies/pure_noise.yaml",
            costs={"commission_bps": 0, "half_spread_bps": 0, "impact_coefficient": 0},
            validation={"embargo_sessions": 0},
        )  # fmt: skip


def test_a_loose_universe_is_refused(configs: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"us_tech\.yaml, key 'reconciliation\.price_tolerance_bps'.*<= 100"
    ):
        edited(configs, "universes/us_tech.yaml", reconciliation={"price_tolerance_bps": 1000})


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"delisting": {"final_return": 0.5}}, r"key 'delisting\.final_return'.*<= 0"),
        # Impact of 1.8 % in ten months was 0.0006 %: a contract of ten million shares is very liquid.
        ({"multipliers": {"AAPL": 10_000_000}}, r"key 'multipliers\.AAPL'.*<= 1"),
    ],
)
def test_nobody_is_paid_for_ends_or_trades_shares_in_contracts_by_assumption(
    configs: Path, changes: dict[str, Any], found: str
) -> None:
    with pytest.raises(ConfigurationError, match=rf"us_tech\.yaml, {found}"):
        edited(configs, "universes/us_tech.yaml", **changes)


def test_the_costs_of_an_asset_class_are_its_own(configs: Path) -> None:
    cheap = {"costs": {"commission_bps": 0.05, "half_spread_bps": 0.2}}
    with pytest.raises(ConfigurationError, match=r"costs\.commission_bps"):
        edited(configs, "strategies/pure_noise.yaml", **cheap)
    settings = edited(configs, "universes/synthetic_noise.yaml", asset_class="future", calendar="CMES")
    assert settings.universes["synthetic_noise"].asset_class == "future"
    with pytest.raises(ConfigurationError, match=r"costs\.commission_bps"):
        edited(configs, "universes/synthetic_noise.yaml", asset_class="crypto", calendar="24/7")


def test_config_validate_says_it_in_one_line(configs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANT_ASSETS_CONFIGS", str(configs))
    monkeypatch.setenv("QUANT_ASSETS_HOME", str(configs / "home"))
    assert CliRunner().invoke(app, ["config", "validate"]).exit_code == 0
    file = configs / "strategies" / "pure_noise.yaml"
    file.write_text(file.read_text() + "costs: {half_spread_bps: 0}\n")
    refused = CliRunner().invoke(app, ["config", "validate"])
    assert refused.exit_code == 2
    (line,) = refused.stderr.splitlines()
    assert "half_spread_bps" in line


def test_the_shipped_strategies_keep_to_the_minima_with_room() -> None:
    settings = load_settings(SHIPPED, SHIPPED / "nowhere")
    assert set(settings.strategies) == set(NAMES)
    for strategy in settings.strategies.values():
        universe = settings.universe_of(strategy)
        assert settings.minima.of_strategy(strategy, universe) == ()
        assert settings.minima.of_universe(universe) == ()
        assert strategy.costs.half_spread_bps > settings.minima.costs[universe.asset_class].half_spread_bps


# -------------------------------------------------------------------------------------------- gates.yaml itself


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sharpe_min", 0.0), ("psr_min", 0.5), ("dsr_min", 0.0), ("max_drawdown_min", -1.0),
        ("loss_probability_max", 0.5), ("min_record_sessions", 32), ("reference_volatility", 0.01),
        ("sharpe_at_twice_costs_min", -9.0),
        ("parity_max_error_over_sd", 1.0), ("parity_min_rank_correlation", 0.0),
        ("parity_max_flipped_decisions", 10_000),
        ("int8_min_rank_correlation", 0.0), ("baseline_max_sharpe_fall", 100.0),
        ("walk_forward_p_min", 0.001), ("psr_standard", "2012"),
    ],
)  # fmt: skip
def test_a_file_of_loose_gates_is_refused(configs: Path, key: str, value: float | str) -> None:
    """`QUANT_ASSETS_CONFIGS` at a folder with loose gates promoted noise."""
    with pytest.raises(
        ConfigurationError, match=rf"gates\.yaml, key '{key}'.*no looser than any file may set"
    ):
        edited(configs, "gates.yaml", **{key: value})


@pytest.mark.parametrize("drift", [{"min_drifted_features": 29}, {"alpha": 1e-9}])
def test_a_file_of_loose_drift_limits_is_refused(configs: Path, drift: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=r"gates\.yaml, key 'drift\."):
        edited(configs, "gates.yaml", drift=drift)


@pytest.mark.parametrize(
    "minima",
    [
        {"embargo_per_horizon": 0.0}, {"groups": 3}, {"paths": 1}, {"gross_leverage": 0},
        {"price_tolerance_bps": 1000},
        {"names": 1}, {"costs": {}}, {"costs": {"equity": {"commission_bps": 0,
        "half_spread_bps": 0, "impact_coefficient": 0}}},
    ],
    ids=lambda minima: next(iter(minima)),
)  # fmt: skip
def test_minima_below_the_platforms_floors_are_refused(configs: Path, minima: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"gates\.yaml, key 'minima\."):
        edited(configs, "gates.yaml", minima=minima)


def test_a_file_without_minima_has_those_of_the_platform(configs: Path) -> None:
    said = yaml.safe_load((configs / "gates.yaml").read_text())
    assert said.pop("minima")
    (configs / "gates.yaml").write_text(yaml.safe_dump(said))
    assert load_settings(configs, configs / "nowhere").minima == MinimaConfig()


def test_every_limit_of_a_shipped_gate_has_a_floor_that_the_shipped_file_keeps_to() -> None:
    limits = [limit for kind in KINDS for gate in gates_of(kind) for limit in gate.limits]
    assert [limit.key for limit in limits if limit.floor is None] == []
    for limit in (*limits, *LOOSEST.values()):
        assert limit.floor is not None
        assert limit.as_strict(limit.default, limit.floor), limit.key
    assert GatesFile().loosened() == ()


# What has no floor below its bounds, and why.
FREE = {
    "drift.window_sessions": "a longer window sees smaller drifts later, a shorter one larger drifts sooner",
    "drift.n_bins": "more bins see finer changes with less power; the level is `alpha` in either case",
}


def test_everything_that_a_file_of_gates_may_say_has_a_floor_or_is_free_for_a_reason() -> None:
    """Each key at its loosest: refused when the file is read, by its bounds, or named above."""
    declared = {limit.key: limit for limit in GatesConfig.declared()}
    declared |= {f"drift.{limit.key}": limit for limit in DriftConfig.declared()} | LOOSEST
    own = {*GatesConfig.model_fields, *(f"drift.{key}" for key in DriftConfig.model_fields)}
    floored = {key for key, limit in declared.items() if limit.floor is not None} | {"psr_standard"}
    assert {*own, *declared} - floored == set(FREE)
    for standard in {"2012", "2025"} - {STANDARD}:
        assert [short.key for short in GatesFile(psr_standard=standard).loosened()] == ["psr_standard"]
    # Minima are floors themselves: each has a bound on its loose side, so that no file takes it away.
    for model in (MinimaConfig, CostMinima):
        for name, field in model.model_fields.items():
            bounded = any(isinstance(bound, Ge | Gt | Le) for bound in field.metadata)
            assert bounded or name == "costs", name


def test_no_asset_class_is_free() -> None:
    for name, costs in MinimaConfig().costs.items():
        assert name in AssetClass.__args__  # type: ignore[attr-defined]
        assert costs.funding_bps == 0.0  # a rate of both signs: nobody may assume to receive it
        for field in set(CostMinima.model_fields) - {
            "borrow_fee_bps",
            "funding_bps",
        }:  # nobody borrows a future
            assert getattr(costs, field) > 0, (name, field)


# ------------------------------------------------------------------------------------ what may be looked at only


@pytest.mark.xdist_group("lineage")
@pytest.mark.parametrize(("minimum", "value"), [("names", 13)])
def test_too_little_data_may_be_looked_at_and_is_not_promoted(
    lineage: Lineage, minimum: str, value: int
) -> None:
    gates = lineage.configs / "gates.yaml"
    said = yaml.safe_load(gates.read_text())
    gates.write_text(yaml.safe_dump({**said, "minima": {**said["minima"], minimum: value}}))
    lineage.reload()
    refused = lineage.materialise("edge", ["promotion"])
    assert not refused.success
    (message,) = failed_steps(refused).values()
    assert f"minima.{minimum} of gates.yaml: at least {value} {minimum} to be promoted" in message
