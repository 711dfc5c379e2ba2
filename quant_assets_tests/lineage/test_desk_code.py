"""What a strategy names of a desk's own is there and takes its call, or its file is refused with file and key."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quant_assets.common.configuration import parse
from quant_assets.common.errors import ConfigurationError, FeatureError
from quant_assets.common.settings import StrategyConfig, UniverseConfig
from quant_assets.features.pack import find_pack
from quant_assets.lineage.desk_code import import_problems, require_plugins, require_sources

PARTS = """
def scheme(scores, known, *, floor: float = 0.1): ...
def duty(traded, known, *, bps: float = 1.0): ...
def turnover(seen, *, most: float = 0.5): ...
def rows_enough(value, *, least: int = 10): ...
def ridge(alpha: float = 1.0): ...
def young(rows): ...
def label(bars, sessions, *, horizon_sessions, cap: float = 0.1): ...
def prices(symbols, start, end, *, folder: str = "data"): ...
def pack(days: int = 5): return 1 / (days - 5)
"""
Write = Callable[..., StrategyConfig]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    name = f"parts_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(PARTS)
    (tmp_path / f"broken_{name}.py").write_text(PARTS + "\nraise RuntimeError('boom')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def strategy(module: str, **other: Any) -> StrategyConfig:
    said = {
        "portfolio": {"scheme": f"{module}:scheme"},
        "costs": {"model": f"{module}:duty"},
        "further_gates": [f"{module}:turnover"],
        "further_checks": [{"asset": "training_set", "use": f"{module}:rows_enough"}],
        "models": {"custom": {"ridge": f"{module}:ridge"}, "weights": {"custom": f"{module}:young"}},
        "label": {"kind": f"{module}:label", "horizon_sessions": 5},
    }
    return parse(StrategyConfig, {"name": "own", "universe": "any", **said, **other}, Path("own.yaml"))


def test_parts_that_take_their_calls_are_let_through(module: str) -> None:
    require_plugins(strategy(module), "own.yaml")
    assert import_problems(strategy(module)) == []


@pytest.mark.parametrize(
    ("key", "section"),
    [
        ("portfolio.scheme", {"portfolio": {"scheme": "{}:label"}}),
        ("costs.model", {"costs": {"model": {"use": "{}:duty", "options": {"bsp": 1}}}}),
        ("further_gates[0]", {"further_gates": [{"use": "{}:turnover", "options": {"most": "much"}}]}),
        ("further_checks[0]", {"further_checks": [{"asset": "labels", "use": "{}:scheme"}]}),
        ("models.custom.mine", {"models": {"custom": {"mine": "{}:rigde"}}}),
        ("models.custom.mine", {"models": {"custom": {"mine": "{}:label"}}}),
        ("models.weights.custom", {"models": {"weights": {"custom": "{}:scheme"}}}),
        ("label", {"label": {"kind": "{}:ridge"}}),
    ],
)
def test_a_part_that_does_not_take_its_call_is_refused_by_file_and_key(
    module: str, key: str, section: dict[str, Any]
) -> None:
    def named(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: named(v) for k, v in value.items()}
        if isinstance(value, list):
            return [named(v) for v in value]
        return value.format(module) if isinstance(value, str) else value

    with pytest.raises(ConfigurationError) as refused:
        require_plugins(strategy(module, **named(section)), "own.yaml")
    assert f"own.yaml, key {key!r}: plug-in" in str(refused.value)


def test_a_source_that_does_not_take_its_call_is_refused(module: str) -> None:
    said = {
        "name": "own",
        "source": {"kind": "plugin", "use": f"{module}:prices", "options": {"foldr": "x"}},
        "start": "2020-01-01",
        "end": "2021-01-01",
    }
    with pytest.raises(ConfigurationError, match="did you mean 'folder'"):
        require_sources(parse(UniverseConfig, said, Path("own.yaml")), "own.yaml")


def test_modules_that_fit_and_trade_are_run_to_be_validated_and_those_that_judge_are_not(module: str) -> None:
    own = strategy(module, costs={"model": f"broken_{module}:duty"})
    (problem,) = import_problems(own)
    assert "strategy own, key 'costs.model'" in str(problem)
    assert "RuntimeError: boom" in str(problem)
    judged = strategy(module, further_gates=[f"broken_{module}:turnover"])
    require_plugins(judged, "own.yaml")
    assert import_problems(judged) == []


def test_a_function_of_packs_that_fails_is_told_with_its_own_error(module: str) -> None:
    with pytest.raises(FeatureError, match="ZeroDivisionError"):
        find_pack(f"{module}:pack")
    with pytest.raises(ConfigurationError, match="option 'days': expected int"):
        find_pack(f'{module}:pack {{"days": "x"}}')
