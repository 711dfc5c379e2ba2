"""A small reviewed snapshot of every asset of one strategy: a change of the lineage shows in a diff."""

import json
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from quant_assets.definitions import defs

SNAPSHOT = Path(__file__).parent / "asset_snapshot.json"
GRAPH = defs.resolve_asset_graph()


def described() -> dict[str, dict[str, object]]:
    """Key, group, owners, dependencies, checks of the assets of ``planted_edge`` and its universe."""
    snapshot = {}
    for key in sorted(GRAPH.get_all_asset_keys(), key=lambda k: k.path):
        if key.path[0] not in ("planted_edge", "synthetic_edge"):
            continue
        node = GRAPH.get(key)
        snapshot[key.to_user_string()] = {
            "group": node.group_name,
            "owners": list(node.owners),
            "deps": sorted(k.to_user_string() for k in node.parent_keys),
            "partitioned": node.is_partitioned,
            "checks": {
                c.name: "blocking" if GRAPH.get(c).blocking else "not blocking"
                for c in sorted(node.check_keys, key=lambda c: c.name)
            },
        }
    return snapshot


def test_the_lineage_is_the_reviewed_one() -> None:
    """When a change is meant: ``python -m quant_assets_tests.defs.test_asset_snapshot`` writes the new one."""
    assert described() == json.loads(SNAPSHOT.read_text(encoding="utf-8"))


def test_the_three_strategies_have_the_same_lineage() -> None:
    names = {
        strategy: {k.path[1] for k in GRAPH.get_all_asset_keys() if k.path[0] == strategy}
        for strategy in ("planted_edge", "pure_noise", "us_tech_daily")
    }
    assert names["planted_edge"] == names["pure_noise"] == names["us_tech_daily"]


@pytest.mark.parametrize("key", sorted(GRAPH.get_all_asset_keys(), key=str), ids=str)
def test_every_asset_has_a_group_an_owner_kinds_a_version_and_one_sentence(key: dg.AssetKey) -> None:
    node = GRAPH.get(key)
    assert node.group_name == f"{key.path[0]}/{node.tags['quant/stage']}"
    assert node.owners
    assert node.kinds
    assert node.code_version
    assert node.description
    assert "\n\n" not in node.description
    assert node.description.rstrip().endswith(".")


def test_a_gated_report_has_one_consumer_and_it_is_promotion() -> None:
    """Whatever else stood behind a gate would be missing for a refused candidate."""
    for report in (
        "validation_report",
        "walk_forward_report",
        "leakage_report",
        "parity_report",
        "drift_report",
    ):
        node = GRAPH.get(dg.AssetKey(["planted_edge", report]))
        assert {k.to_user_string() for k in node.child_keys} == {"planted_edge/promotion"}
        assert all(GRAPH.get(c).blocking for c in node.check_keys)
        assert node.check_keys


def test_promotion_waits_for_blocking_checks_and_runs_alone() -> None:
    node = GRAPH.get(dg.AssetKey(["planted_edge", "promotion"]))
    assert "all_deps_blocking_checks_passed" in str(node.automation_condition)


def test_the_code_location_loads_without_a_heavy_library() -> None:
    heavy = (
        "['lightgbm', 'xgboost', 'mlflow', 'onnxruntime', 'sklearn', 'matplotlib', 'numba', 'scipy.stats']"
    )
    script = f"import sys, quant_assets.definitions; print([m for m in {heavy} if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_no_deprecated_name_is_used_when_the_code_location_loads() -> None:
    script = (
        "import warnings\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    import quant_assets.definitions\n"
        "print([str(w.message) for w in caught if 'quant_assets' in w.filename])\n"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(described(), indent=1) + "\n", encoding="utf-8")
