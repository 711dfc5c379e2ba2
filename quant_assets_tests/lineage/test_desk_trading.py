"""A desk's own code in the lineage: whose version it is in, and what it closes."""

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from quant_assets import Lab
from quant_assets.common.errors import ConfigurationError
from quant_assets.common.home import Home
from quant_assets.common.provenance import forget_closures
from quant_assets.common.settings import FurtherCheck, PortfolioConfig
from quant_assets.common.store import Table
from quant_assets.ledgers.promotions import LedgerEntry
from quant_assets.lineage import drafting
from quant_assets.lineage.artifact import Held
from quant_assets.lineage.configured import load_settings, require_whole
from quant_assets.lineage.desk_checks import desk_checks
from quant_assets.lineage.graph import Lineage
from quant_assets.lineage.scope import basis_of
from quant_assets.lineage.sizing_check import SIZING_CHECK
from quant_assets.lineage.stages.registry_stages import withdrawn_gates
from quant_assets.testing.small_market import scores_on, small_market

REPOSITORY = Path(__file__).parents[2]
STRATEGY = """
universe: tiny
portfolio: {scheme: {use: my_desk.sizing:mine, options: {floor: 0.01}}}
costs: {model: my_desk.costs:duty}
further_gates: [{use: my_desk.gates:max_turnover, options: {most: 0.2}}]
further_checks: [{asset: training_set, use: my_desk.checks:enough_rows}]
"""
MODULES = {
    "sizing": "from my_desk.maths import half\ndef mine(scores, known, *, floor):\n    return half(scores)\n",
    "maths": "def half(x):\n    return x / 2\n",
    "costs": "def duty(traded, known):\n    return abs(traded) * 1e-4\n",
    "gates": "from quant_assets.gates import at_most\n"
    "def max_turnover(seen, *, most):\n    return at_most(seen.median.turnover_per_session, most, 'turnover')\n",
    "checks": "from quant_assets.gates import at_least\n"
    "def enough_rows(value):\n    return at_least(value.height, 3, 'rows')\n",
    "sources": "def prices(symbols, start, end):\n    raise OSError('the vendor is down')\n",
}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project with one strategy that uses one plug-in of every kind."""
    configs = tmp_path / "configs"
    for folder in ("universes", "strategies"):
        (configs / folder).mkdir(parents=True)
    for name in ("gates.yaml", "monitoring.yaml"):
        shutil.copy(REPOSITORY / "configs" / name, configs / name)
    (configs / "universes" / "tiny.yaml").write_text(
        "source: {kind: synthetic, seed: 5, n_symbols: 8}\nstart: 2019-01-02\nend: 2023-12-29\n"
        "sectors: {SYN000: tech, SYN001: energy}\n"
    )
    (configs / "strategies" / "own.yaml").write_text(STRATEGY)
    (tmp_path / "my_desk").mkdir()
    for name, source in MODULES.items():
        (tmp_path / "my_desk" / f"{name}.py").write_text(source)
    monkeypatch.setenv("QUANT_ASSETS_CONFIGS", str(configs))
    monkeypatch.setattr(sys, "path", list(sys.path))
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    """What a process remembers of sources, and the desk's modules."""
    forget_closures()
    for name in [n for n in sys.modules if n.partition(".")[0] == "my_desk"]:
        del sys.modules[name]


def lineage(desk: Path) -> Lineage:
    """Of the project as it is now."""
    forget()
    return Lineage(require_whole(load_settings(desk / "configs", desk / "home")))


def versions(desk: Path) -> dict[str, str]:
    """Code version of every asset by name."""
    return {"/".join(key): node.code_version for key, node in lineage(desk).nodes.items()}


def changed(desk: Path, change: Callable[[], object]) -> set[str]:
    """Whose versions a change moves, without the prefix of the strategy."""
    before = versions(desk)
    change()
    after = versions(desk)
    return {name.removeprefix("own/") for name in before if before[name] != after.get(name)}


TRADES = {
    "cpcv_paths", "walk_forward", "linear_baseline", "tear_sheet", "holdout_report", "leakage_report"
}  # fmt: skip
JUDGES = {"validation_report", "tear_sheet", "training_record", "promotion"}
# They compare the settings in force, in which the code of a desk is.
COMPARES = {
    "validation_report",
    "walk_forward_report",
    "parity_report",
    "drift_report",
    "promotion",
    "holdout_report",
}


def test_code_of_a_desk_is_in_the_version_of_exactly_what_it_shapes(desk: Path) -> None:
    module = desk / "my_desk"
    edits = {
        "maths": "def half(x):\n    return x / 2.0 + 0\n",
        "costs": MODULES["costs"].replace("1e-4", "2e-4"),
        "gates": MODULES["gates"].replace("'turnover'", "'churn'") + "\nX = 1\n",
    }
    seen, moved = versions(desk), {}
    for name, source in edits.items():
        (module / f"{name}.py").write_text(source)
        before, seen = seen, versions(desk)
        moved[name] = {asset.removeprefix("own/") for asset in before if before[asset] != seen[asset]}
    assert moved["maths"] == moved["costs"]
    assert TRADES <= moved["maths"] <= TRADES | COMPARES
    assert JUDGES <= moved["gates"] <= JUDGES | COMPARES
    fits = {"lightgbm", "xgboost", "ensemble", "cpcv_predictions", "training_set"}
    assert not fits & (moved["maths"] | moved["gates"])


def test_an_edit_of_a_cost_model_is_another_draft_and_not_the_old_one_going_on(desk: Path) -> None:
    def idea() -> str:
        made = lineage(desk)
        return drafting._idea(made, "own", made.scope("own").plan)

    before = idea()
    assert idea() == before
    (desk / "my_desk" / "costs.py").write_text(MODULES["costs"].replace("1e-4", "2e-4"))
    assert idea() != before


def test_sectors_are_in_the_version_of_what_trades_by_them_alone(desk: Path) -> None:
    universe = desk / "configs" / "universes" / "tiny.yaml"
    moved = changed(desk, lambda: universe.write_text(universe.read_text().replace("energy", "oil")))
    assert "cpcv_paths" in moved
    assert not {name for name in moved if name.startswith("tiny/")}
    assert "cpcv_predictions" not in moved
    held = lineage(desk).settings.strategies["own"].portfolio
    assert held.sectors == {"SYN000": "tech", "SYN001": "oil"}


def test_a_gate_of_a_desk_is_a_blocking_check_and_its_removal_another_basis(desk: Path) -> None:
    made = lineage(desk)
    blocking = made.blocking_checks(("own", "promotion"))
    assert (("own", "validation_report"), "desk_max_turnover") in blocking
    assert (("own", "training_set"), "desk_enough_rows") in blocking
    assert (("own", "cpcv_paths"), "sizing_looks_at_nothing_later") in blocking
    with_gate = basis_of(made.scope("own"))
    assert with_gate["further_gates"][0]["gate"] == "desk_max_turnover"
    (desk / "configs" / "strategies" / "own.yaml").write_text(
        "\n".join(line for line in STRATEGY.splitlines() if "further_gates" not in line)
    )
    without = basis_of(lineage(desk).scope("own"))
    assert {part for part in {*with_gate, *without} if with_gate.get(part) != without.get(part)} == {
        "further_gates"
    }


def entry(action: str, *reasons: str) -> LedgerEntry:
    """A line of the promotion ledger."""
    told = dict.fromkeys(LedgerEntry.__dataclass_fields__, "x")
    return LedgerEntry(**{**told, "action": action, "reasons": reasons})  # type: ignore[arg-type]


def test_a_gate_that_refused_and_is_asked_no_more_is_named() -> None:
    entries = [
        entry(
            "refused", "desk_slow: fail: turnover is 1", "cpcv_sharpe: fail", "desk_rows on own/labels: no"
        ),
        entry("promoted", "desk_other: said"),
    ]
    assert withdrawn_gates(entries, ("cpcv_sharpe",)) == ("desk_slow",)
    assert withdrawn_gates(entries, ("cpcv_sharpe", "desk_slow")) == ()


@pytest.mark.parametrize(
    ("was", "becomes", "says"),
    [
        ("my_desk.sizing:mine", "my_desk.sizing:mime", "portfolio.scheme.*did you mean 'mine'"),
        ("my_desk.gates:max", "my_desk.gate:max", r"further_gates\[0\].*no module of that name"),
        ("asset: training_set", "asset: training_sets", "did you mean 'training_set'"),
        ("asset: training_set", "asset: bars", "an asset of the strategy"),
        ("my_desk.costs:duty", "my_desk.costs:stamp", "costs.model"),
        (
            "asset: training_set, use: my_desk.checks:enough_rows",
            "asset: validation_report, use: my_desk.gates:max_turnover, options: {most: 0.2}",
            "a name that no further gate has",
        ),
        ("most: 0.2}}]", "most: 0.2}}, my_desk.other:max_turnover]", "two are called 'max_turnover'"),
        ("universe: tiny", "universe: tiny\ngates: {sharpe_min: 0.1}", "at least as strict"),
    ],
)
def test_a_plug_in_that_is_not_there_is_said_before_anything_runs(
    desk: Path, was: str, becomes: str, says: str
) -> None:
    (desk / "configs" / "strategies" / "own.yaml").write_text(STRATEGY.replace(was, becomes))
    with pytest.raises(ConfigurationError, match=f"(?s){says}"):
        _ = lineage(desk).nodes
    assert not [name for name in sys.modules if name.startswith("my_desk.")]  # nothing was run to find out


def test_a_scheme_that_is_only_tried_has_the_sectors_of_the_universe_or_is_refused(desk: Path) -> None:
    change = {"portfolio.scheme": "sector_neutral", "portfolio.options": {}}
    file, universe = (desk / "configs" / f"{name}.yaml" for name in ("strategies/own", "universes/tiny"))
    file.write_text("universe: tiny\n")
    lab = Lab(desk, home=Home(str(desk / "home")))
    sectors = {"SYN000": "tech", "SYN001": "energy"}
    assert drafting.changed(lab.settings, "own", change).strategies["own"].portfolio.sectors == sectors
    assert lab.changed("own", change).portfolio.sectors == sectors
    with pytest.raises(ConfigurationError, match=r"key 'universe'.*did you mean 'tiny'"):
        lab.changed("own", {"universe": "tinny"})
    universe.write_text("\n".join(x for x in universe.read_text().splitlines() if "sectors" not in x))
    lab.refresh()
    for changed in (
        lambda: drafting.changed(lab.settings, "own", change),
        lambda: lab.changed("own", change),
    ):
        with pytest.raises(ConfigurationError, match="which sector each name is in"):
            changed()


def test_sector_neutral_without_sectors_says_where_they_belong(desk: Path) -> None:
    universe = desk / "configs" / "universes" / "tiny.yaml"
    universe.write_text(
        "\n".join(line for line in universe.read_text().splitlines() if "sectors" not in line)
    )
    (desk / "configs" / "strategies" / "own.yaml").write_text(
        "universe: tiny\nportfolio: {scheme: sector_neutral}\n"
    )
    with pytest.raises(ConfigurationError, match="which sector each name is in"):
        lineage(desk)


def test_a_check_of_a_desk_judges_its_asset(desk: Path) -> None:
    scope = lineage(desk).scope("own")
    (check,) = desk_checks(scope, "training_set")
    assert desk_checks(scope, "labels") == ()
    short, long = (Held("own/training_set", Table(pl.DataFrame({"x": [1.0] * n}))) for n in (2, 5))
    (refused,) = check.judge({"asset": short})
    assert (refused.name, refused.passed, refused.severity) == ("desk_enough_rows", False, "ERROR")
    assert "rows is 2, required is >= 3" in refused.description
    (opened,) = check.judge({"asset": long})
    assert opened.passed
    (page,) = check.judge({"asset": Held("own/tear_sheet", "<html>")})
    assert not page.passed  # a text has no height: its own error, in words
    assert "AttributeError" in page.description
    warning = FurtherCheck(asset="labels", use="my_desk.checks:enough_rows", blocking=False)
    scope = scope.__class__(
        scope.settings, scope.universe, scope.plan.model_copy(update={"further_checks": (warning,)})
    )
    (told,) = desk_checks(scope, "labels")[0].judge({"asset": short})
    assert told.severity == "WARN"


SCHEMES = {
    "honest": ("return np.where(np.isnan(scores), 0.0, 0.1)", True, "experiments"),
    "remembers": (
        "SEEN.append(known.returns[-1])\n"
        "    return np.where(np.isnan(scores), 0.0, 0.05 + np.nan_to_num(SEEN[len(SEEN) // 2]))",
        False, "with the later bars",
    ),
    "tiny": ("return np.where(np.isnan(scores), 0.0, 0.001)", False, "mean gross of the book: 0.0097"),
    "breaks": ("return {}[known.session]", False, "KeyError"),
    "nothing": ("return np.zeros_like(scores)", False, "mean gross of the book: nan"),
}  # fmt: skip


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_check_of_a_scheme_finds_what_looks_ahead_or_is_no_book(desk: Path, scheme: str) -> None:
    body, passes, says = SCHEMES[scheme]
    (desk / "my_desk" / "sizing.py").write_text(
        f"import numpy as np\nSEEN = []\ndef mine(scores, known, *, floor=0.0):\n    {body}\n"
    )
    bars = small_market(n_sessions=260)
    held = {
        "cpcv_predictions": Held("own/cpcv_predictions", Table(scores_on(bars))),
        "bars": Held("tiny/bars", Table(bars)),
        "portfolio": PortfolioConfig(scheme="my_desk.sizing:mine"),
        "costs": lineage(desk).scope("own").plan.costs,
    }
    (result,) = SIZING_CHECK.judge(held)
    assert result.passed is passes, result.description
    assert says in result.description
