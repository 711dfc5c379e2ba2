"""The configuration: what is shipped is valid, and each mistake has one clear message."""

import shutil
from datetime import date
from pathlib import Path

import pytest
from pydantic import ValidationError

from quant_assets.common.errors import ConfigurationError
from quant_assets.lineage.configured import load_settings, require_whole

SHIPPED = Path(__file__).resolve().parents[2] / "configs"
UNIVERSE = "source: {kind: bokeh_sampledata}\nstart: 2000-01-03\nend: 2001-01-03\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED, tmp_path / "configs"))


def message(folder: Path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        require_whole(load_settings(folder, folder / "nowhere"))
    return str(caught.value)


def test_the_shipped_configuration_has_the_three_strategies(tmp_path: Path) -> None:
    settings = load_settings(SHIPPED, tmp_path)
    assert sorted(settings.strategies) == ["planted_edge", "pure_noise", "us_tech_daily"]
    assert settings.universes["us_tech"].start == date(2000, 3, 1)


def test_the_shipped_limits_are_those_of_the_design(tmp_path: Path) -> None:
    gates = load_settings(SHIPPED, tmp_path).gates
    limits = (
        gates.sharpe_min,
        gates.psr_min,
        gates.dsr_min,
        gates.max_drawdown_min,
        gates.loss_probability_max,
    )
    assert limits == (1.2, 0.95, 0.95, -0.20, 0.05)
    record = (gates.min_record_sessions, gates.false_pass_max, gates.reference_volatility, gates.psr_standard)
    assert record == (504, 0.007, 0.10, "2025")


def test_the_two_controls_are_the_same_market_but_for_the_edge(tmp_path: Path) -> None:
    universes = load_settings(SHIPPED, tmp_path).universes
    edge, noise = universes["synthetic_edge"].source, universes["synthetic_noise"].source
    assert edge.kind == noise.kind == "synthetic"
    assert edge.edge is not None
    assert edge.model_copy(update={"edge": None}) == noise


def test_the_limits_of_the_bar_rules_are_shown_with_their_defaults(folder: Path) -> None:
    (folder / "universes/us_tech.yaml").write_text(UNIVERSE + "quality: {jump_fraction: 0.5}")
    universes = load_settings(folder, folder / "nowhere").universes
    assert universes["us_tech"].model_dump(mode="json")["quality"] == {
        "severity": {}, "accepted": [], "set_aside": {"symbols": 0.05, "rows": 0.001}, "strict": False,
        "jump_fraction": 0.5, "stale_sessions": 5, "flat_sessions": 5,
        "ohlc_tolerance_fraction": 1e-4, "max_missing_fraction": 0.01, "long_gap_sessions": 10,
        "spike_fraction": 0.2, "spike_multiple": 10.0, "range_factor": 2.0, "decimal_slip_tolerance": 0.25,
        "volume_spike_factor": 100.0, "partial_volume_fraction": 0.2, "split_tolerance": 0.04,
        "split_max_activity": 3.0, "max_quarantined_fraction": 0.02,
        "common_gap_sessions": 5, "thin_session_fraction": 0.5, "recent_sessions": 63, "edge_sessions": 21,
        "recent_names_fraction": 0.5, "twin_sessions": 60,
    }  # fmt: skip
    assert universes["synthetic_edge"].quality.limits["jump_fraction"] == 0.4


def test_settings_are_frozen(tmp_path: Path) -> None:
    settings = load_settings(SHIPPED, tmp_path)
    with pytest.raises(ValidationError, match="frozen"):
        settings.gates.sharpe_min = 0.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("gates.yaml", "sharp_min: 2", ["gates.yaml", "sharp_min", "did you mean 'sharpe_min'"]),
        ("gates.yaml", "false_pass_max: 0.9", ["gates.yaml", "'false_pass_max'", "0.9", "equal to 0.05"]),
        ("gates.yaml", "sharpe_min: ${LOOSE}", ["gates.yaml", "sharpe_min", "${LOOSE}", "valid number"]),
        ("gates.yaml", "sharpe_min: .nan", ["gates.yaml", "sharpe_min", "nan"]),
        ("gates.yaml", "drift: {window: 3}", ["drift.window", "did you mean 'window_sessions'"]),
        ("gates.yaml", "drift: {alpha: '${LOOSE:-0.4}'}", ["drift.alpha", "${LOOSE:-0.4}", "valid number"]),
        (
            "gates.yaml",
            "drift: {min_drifted_features: '${LOOSE}'}",
            ["drift.min_drifted_features", "integer"],
        ),
        ("gates.yaml", "drift: {sharpe_min: 2}", ["drift.sharpe_min", "one of alpha"]),
        (
            "monitoring.yaml",
            "drift: {window_sessions: 63}",
            ["monitoring.yaml, key 'drift'", "limits of drift in gates.yaml", "configs/gates.yaml"],
        ),
        ("monitoring.yaml", "- a list", ["monitoring.yaml", "mapping", "list"]),
        ("monitoring.yaml", "drift: [", ["monitoring.yaml", "valid YAML"]),
        ("universes/us_tech.yaml", UNIVERSE + "calender: XNYS", ["calender", "did you mean 'calendar'"]),
        ("universes/us_tech.yaml", UNIVERSE + "start: 2000-01-04", ["line 4", "'start' twice"]),
        ("universes/us_tech.yaml", UNIVERSE.replace("2001", "1999"), ["us_tech.yaml", "must come after"]),
        ("universes/us_tech.yaml", UNIVERSE.replace("bokeh_sampledata", "yahoo"), ["source", "yahoo"]),
        (
            "universes/us_tech.yaml",
            UNIVERSE + "quality: {jump_fracton: 0.3}",
            ["us_tech.yaml, key 'quality.jump_fracton'", "with value 0.3", "did you mean 'jump_fraction'"],
        ),
        (
            "universes/us_tech.yaml",
            UNIVERSE + "quality: {jump_fraction: 3}",
            ["us_tech.yaml, key 'quality.jump_fraction'", "less than or equal to 1", "found 3"],
        ),
        (
            "universes/us_tech.yaml",
            UNIVERSE + "quality: {severity: {zero_volum: ERROR}}",
            ["us_tech.yaml, key 'quality.severity.zero_volum'", "'ERROR'", "did you mean 'zero_volume'"],
        ),
        (
            "universes/us_tech.yaml",
            UNIVERSE + "quality: {severity: {decimal_slip: WARN}}",
            ["us_tech.yaml, key 'quality.severity.decimal_slip'", "QUARANTINE or ERROR", "'WARN'"],
        ),
        (
            "universes/us_tech.yaml",
            UNIVERSE
            + "quality: {accepted: [{symbol: A, session: 2000-02-01, rule: nulls, reason: seen by me}]}",
            ["us_tech.yaml, key 'quality.accepted.0.rule'", "price_spike", "'nulls'"],
        ),
        ("universes/us_tech.yaml", "start: 2000-01-03\nend: 2001-01-03", ["source", "add the key"]),
        ("strategies/pure_noise.yaml", "universe: us_teck", ["us_teck", "did you mean 'us_tech'"]),
        ("strategies/pure_noise.yaml", "universe: ${NOT_SET}", ["NOT_SET", "is not set"]),
        (
            "strategies/pure_noise.yaml",
            "universe: us_tech\nmodels: {lightgbm: {num_leafs: 3}}",
            ["models.lightgbm.num_leafs", "did you mean 'num_leaves'"],
        ),
        (
            "strategies/pure_noise.yaml",
            "universe: us_tech\nmodels: {lightgbm: {objective: rf}}",
            ["models.lightgbm.objective", "rf", "regression"],
        ),
        (
            "strategies/pure_noise.yaml",
            "universe: us_tech\ngates: {max_drawdown_min: -0.5}",
            ["gates.max_drawdown_min", "at least as strict", "-0.5"],
        ),
        (
            "strategies/pure_noise.yaml",
            "universe: us_tech\ngates: {loss_probability_max: 0.4}",
            ["loss_probability_max", "0.4"],
        ),
        (
            "strategies/pure_noise.yaml",
            "universe: us_tech\ngates: {sharp_min: 2.0}",
            ["pure_noise.yaml", "'gates.sharp_min'", "2.0", "did you mean 'sharpe_min'"],
        ),
        (
            "strategies/pure_noise.yaml",
            "universe: us_tech\ngates: {parity_max_error_over_sd: 0.0001}",
            ["pure_noise.yaml", "'gates.parity_max_error_over_sd'", "one of sharpe_min"],
        ),
        (
            "strategies/pure_noise.yaml",
            "universe: us_tech\ngates: {sharpe_min: .inf}",
            ["pure_noise.yaml", "gates.sharpe_min", "finite"],
        ),
        ("gates.yaml", "drift: {min_drifted_featurs: 3}", ["did you mean 'min_drifted_features'"]),
        ("gates.yaml", "drift: {min_drifted_features: 0}", ["drift.min_drifted_features", "0"]),
        (
            "strategies/pure_noise.yaml",
            "universe: us_tech\nholdout_sessions: 30",
            ["holdout_sessions", "63", "30"],
        ),
    ],
)
def test_a_mistake_gives_one_message_with_file_key_value_and_remedy(
    folder: Path, file: str, text: str, said: list[str]
) -> None:
    (folder / file).write_text(text)
    text = message(folder)
    assert [part for part in said if part not in text] == []
    assert "To do:" in text


def test_a_missing_file_is_named_with_what_is_there(folder: Path) -> None:
    (folder / "gates.yaml").unlink()
    assert "gates.yaml" in (text := message(folder))
    assert "monitoring.yaml" in text


def test_an_environment_variable_may_stand_for_a_value(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HORIZON", "10")
    file = folder / "strategies/pure_noise.yaml"
    file.write_text(
        "universe: ${UNIVERSE:-us_tech}\nlabel: {horizon_sessions: '${HORIZON}'}\nvalidation: {embargo_sessions: 10}"
    )
    strategy = load_settings(folder, folder / "nowhere").strategies["pure_noise"]
    assert (strategy.universe, strategy.label.horizon_sessions) == ("us_tech", 10)


def test_a_strategy_may_be_stricter_than_the_shared_limits(folder: Path) -> None:
    file = folder / "strategies/pure_noise.yaml"
    file.write_text("universe: us_tech\ngates: {sharpe_min: 2.0}")
    settings = load_settings(folder, folder / "nowhere")
    strict = settings.gates.for_strategy(settings.strategies["pure_noise"].gates)
    assert (strict.sharpe_min, strict.psr_min) == (2.0, 0.95)


def test_a_strategy_must_not_share_its_name_with_a_universe(folder: Path) -> None:
    (folder / "strategies/us_tech.yaml").write_text("universe: us_tech")
    assert "a name that no universe has" in message(folder)
