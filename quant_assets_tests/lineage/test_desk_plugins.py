"""A desk's own features and label in the lineage: made, proven, refused when they leak, stale when edited."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from quant_assets.common.home import Home
from quant_assets.lineage.configured import load_settings
from quant_assets.lineage.notebook import Run, run

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FEATURES = """
import pandas as pd
import polars as pl
from quant_assets.features import expression_pack, function_pack

CLOSE = pl.col("close")
momentum_v1 = expression_pack(
    "momentum_v1",
    {"mom_20": CLOSE.pct_change(20), "mom_5": CLOSE.pct_change(5)},
    across={"mom_rank": pl.col("mom_20").rank() / pl.col("mom_20").count()},
)


def gap(bars: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"gap_10": bars["close"] / bars["close"].rolling(10).mean() - 1})


gap_v1 = function_pack("gap_v1", gap, features=["gap_10"])


def centred(bars: pd.DataFrame) -> pd.DataFrame:
    step = bars["close"].pct_change()
    return pd.DataFrame({"fine": step, "leaks": step - step.mean()})


leaky_v1 = function_pack("leaky_v1", centred, features=["fine", "leaks"])
"""
LABELS = """
import polars as pl
from quant_assets.datasets import forward_return_labels


def capped(bars, sessions, *, horizon_sessions, cap=0.1):
    made = forward_return_labels(bars, sessions, horizon_sessions=horizon_sessions)
    return made.with_columns(target=pl.col("forward_return").clip(-cap, cap))


def longer_than_it_says(bars, sessions, *, horizon_sessions):
    made = forward_return_labels(bars, sessions, horizon_sessions=horizon_sessions)
    long = forward_return_labels(bars, sessions, horizon_sessions=3 * horizon_sessions)
    return made.join(long.select("symbol", "session", target="forward_return"), on=["symbol", "session"])
"""
UNIVERSE = {
    "source": {"kind": "synthetic", "seed": 5, "n_symbols": 6},
    "calendar": "XNYS",
    "start": "2019-01-02",
    "end": "2020-12-31",
}
STRATEGIES: dict[str, dict[str, Any]] = {
    "sound": {
        "feature_packs": ["plain_desk.features:momentum_v1", "plain_desk.features:gap_v1"],
        "label": {"kind": "plain_desk.labels:capped", "options": {"cap": 0.05}},
    },
    "leaking": {
        "feature_packs": ["plain_desk.features:leaky_v1"],
        "label": {"kind": "plain_desk.labels:longer_than_it_says"},
    },
    "plain": {"feature_packs": ["technical_v1"], "label": {"kind": "triple_barrier", "horizon_sessions": 5}},
}


def write_desk(folder: Path) -> None:
    """A project: its configuration, and its module beside it."""
    configs = folder / "configs"
    (configs / "strategies").mkdir(parents=True)
    (configs / "universes").mkdir()
    for name in ("gates.yaml", "monitoring.yaml"):
        shutil.copy(CONFIGS / name, configs / name)
    (configs / "universes" / "six.yaml").write_text(yaml.safe_dump(UNIVERSE))
    for name, section in STRATEGIES.items():
        text = yaml.safe_dump({"universe": "six", "reports": {"importance": False}, **section})
        (configs / "strategies" / f"{name}.yaml").write_text(text)
    (folder / "plain_desk").mkdir()
    (folder / "plain_desk" / "__init__.py").touch()
    (folder / "plain_desk" / "features.py").write_text(FEATURES)
    (folder / "plain_desk" / "labels.py").write_text(LABELS)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("desk")
    write_desk(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUANT_ASSETS_CONFIGS", str(folder / "configs"))
        patch.setattr(sys, "path", [*sys.path, str(folder)])
        yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "plain_desk"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def made(desk: Path) -> dict[str, Run]:
    """Each strategy up to its training set, its checks judged."""
    settings = load_settings(desk / "configs")
    assert settings.left_out == ()
    home = Home(str(desk / "home"))
    bars = run("sound", settings, "bars", home=home)
    given = {"bars": bars.artifact("bars")}
    return {
        name: run(name, settings, "training_set", home=home, given=given, checks=True) for name in STRATEGIES
    }


def test_features_and_target_of_a_desk_reach_the_training_set(made: dict[str, Run]):
    frame = made["sound"].table("training_set").frame
    assert frame.columns[5:] == ["mom_20", "mom_5", "mom_rank", "gap_10", "target"]
    assert frame["target"].abs().max() == pytest.approx(0.05)
    labels = made["sound"].table("labels").frame
    assert (labels["forward_return"].abs().max() or 0.0) > 0.05
    barrier = made["plain"].table("training_set").frame
    assert set(barrier["target"].unique()) <= {-1.0, 0.0, 1.0}


def test_sound_ones_pass_their_proofs(made: dict[str, Run]):
    run = made["sound"]
    for key in (("six", "momentum_features"), ("six", "gap_features"), ("sound", "labels")):
        assert [(check.name, check.passed) for check in run.checks[key]] == [
            ("label_horizon" if key[1] == "labels" else "causality", True)
        ], run.checks[key]


def test_a_leak_in_a_feature_is_named_by_the_blocking_check_and_the_sound_one_beside_it_is_not(
    made: dict[str, Run],
):
    (check,) = made["leaking"].checks["six", "leaky_features"]
    assert (check.name, check.passed) == ("causality", False)
    named = {text.partition(":")[0] for text in check.facts["violations"]}
    assert named == {"leaks"}


def test_a_leak_in_a_label_is_named_by_the_blocking_check(made: dict[str, Run]):
    (check,) = made["leaking"].checks["leaking", "labels"]
    assert (check.name, check.passed) == ("label_horizon", False)
    assert "t1 is too early, and purging misses it" in check.description


def test_only_a_label_of_the_desk_has_the_proof(made: dict[str, Run]):
    assert list(made["plain"].checks["plain", "labels"]) == []


def test_the_checks_block_what_comes_after(desk: Path):
    from quant_assets.lineage.graph import Lineage

    lineage = Lineage(load_settings(desk / "configs"))
    asked = lineage.blocking_checks(lineage.decision("leaking").key)
    assert (("six", "leaky_features"), "causality") in asked
    assert (("leaking", "labels"), "label_horizon") in asked
    assert (("plain", "labels"), "label_horizon") not in lineage.blocking_checks(
        lineage.decision("plain").key
    )


VERSIONS = """
import json, sys
from pathlib import Path
from quant_assets.lineage.configured import load_settings
from quant_assets.lineage.graph import Lineage
nodes = Lineage(load_settings(Path(sys.argv[1]))).nodes
print(json.dumps({"/".join(key): node.code_version for key, node in nodes.items()}))
"""


def versions(folder: Path) -> dict[str, str]:
    configs = folder / "configs"
    done = subprocess.run(
        [sys.executable, "-c", VERSIONS, str(configs)],
        env={**os.environ, "QUANT_ASSETS_CONFIGS": str(configs)},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.drill
def test_an_edit_of_a_module_makes_the_assets_of_what_it_shapes_stale_and_no_other(tmp_path: Path):
    write_desk(tmp_path)
    before = versions(tmp_path)
    module = tmp_path / "plain_desk" / "features.py"

    def changed(edited: Path, old: str, new: str) -> set[str]:
        text = edited.read_text()
        assert old in text
        edited.write_text(text.replace(old, new))
        after = versions(tmp_path)
        edited.write_text(text)
        return {key for key in before if before[key] != after.get(key)}

    # The study of leakage makes features and labels again from other bars, so their code is its own.
    study = "sound/leakage_report"
    assert changed(module, "rolling(10).mean()", "rolling(10).median()") == {"six/gap_features", study}
    # What an expression reaches in its module is part of it.
    assert changed(module, 'CLOSE = pl.col("close")', 'CLOSE = pl.col("open")') == {
        "six/momentum_features",
        study,
    }
    labels = tmp_path / "plain_desk" / "labels.py"
    assert changed(labels, "clip(-cap, cap)", "clip(-cap, 2 * cap)") == {"sound/labels", study}
    strategy = tmp_path / "configs" / "strategies" / "sound.yaml"
    assert "sound/labels" in changed(strategy, "cap: 0.05", "cap: 0.06")


def test_one_name_for_two_packs_in_a_universe_is_refused(desk: Path, tmp_path: Path):
    write_desk(tmp_path)
    other = tmp_path / "plain_desk" / "features.py"
    other.write_text(
        FEATURES
        + "\n\ndef same(days=3):\n    return expression_pack('same_v1', {'x': CLOSE.pct_change(days)})\n"
    )
    for name, days in (("sound", 3), ("leaking", 4)):
        file = tmp_path / "configs" / "strategies" / f"{name}.yaml"
        section = yaml.safe_load(file.read_text())
        section["feature_packs"] = [{"use": "plain_desk.features:same", "options": {"days": days}}]
        file.write_text(yaml.safe_dump(section))
    script = (
        "import sys; from pathlib import Path; from quant_assets.lineage.configured import load_settings\n"
        "print(*(str(p.error) for p in load_settings(Path(sys.argv[1])).left_out), sep='\\n')"
    )
    configs = tmp_path / "configs"
    done = subprocess.run(
        [sys.executable, "-c", script, str(configs)],
        env={**os.environ, "QUANT_ASSETS_CONFIGS": str(configs)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "one pack of a name in a universe" in done.stdout
    assert done.stdout.count("QA") == 1


def test_labels_of_a_frame_are_sorted_by_session(made: dict[str, Run]):
    frame = made["sound"].table("labels").frame
    assert frame.select("session", "symbol").equals(
        frame.select("session", "symbol").sort("session", "symbol")
    )
    assert frame.filter(pl.col("t1") > pl.col("known_at")).is_empty()
