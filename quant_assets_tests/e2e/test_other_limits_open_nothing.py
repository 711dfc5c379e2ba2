"""Every way to be judged by other limits than those that were reviewed, tried on real runs."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from structlog.testing import capture_logs

from quant_assets.artifacts.bundle.signing import SIGNING_VARIABLE, VERIFY_VARIABLE, trusted_keys
from quant_assets.common.errors import ConfigurationError, RegistryError
from quant_assets.gates import gate as gates
from quant_assets.gates.limits import APPROVED_VARIABLE, gates_digest
from quant_assets.ledgers.promotions import PromotionLedger
from quant_assets.lineage.configured import load_settings
from quant_assets.registry.champion import load_champion
from quant_assets_tests.e2e.lineage import Lineage, edit, failed_steps, lineage_in, materialised

pytestmark = pytest.mark.drill

REPORTS = ["validation_report", "walk_forward_report", "parity_report", "drift_report"]


@pytest.fixture(scope="module")
def loose_folder(built_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The refused noise, judged again by loose limits: every gate is open, nothing is promoted yet."""
    folder = tmp_path_factory.mktemp("loose") / "copy"
    shutil.copytree(built_folder, folder)
    with lineage_in(folder) as lineage:
        lineage.loosen()
        assert lineage.materialise("noise", [*REPORTS, "tear_sheet", "training_record"]).success
    return folder


@pytest.fixture
def loose(loose_folder: Path, tmp_path: Path) -> Iterator[Lineage]:
    shutil.copytree(loose_folder, tmp_path / "copy")
    with lineage_in(tmp_path / "copy") as lineage:
        lineage.loosen()
        yield lineage


@pytest.fixture
def shipped() -> str:
    """Digest of the limits that were reviewed."""
    settings = load_settings()
    return gates_digest(settings.gates, settings.drift, settings.minima)


def production(lineage: Lineage, monkeypatch: pytest.MonkeyPatch, approved: str | None) -> None:
    """The environment of the machine that promotes: keys, and the digest of the approved limits."""
    keys = lineage.home.path / "keys"
    monkeypatch.setenv("QUANT_ASSETS_ENV", "production")
    monkeypatch.setenv(SIGNING_VARIABLE, str(keys / "bundle_signing.pem"))
    monkeypatch.setenv(VERIFY_VARIABLE, str(keys / "bundle_signing.pub"))
    if approved is not None:
        monkeypatch.setenv(APPROVED_VARIABLE, approved)


def refusal(lineage: Lineage, strategy: str) -> str:
    result = lineage.materialise(strategy, ["promotion"])
    assert not result.success
    assert "promotion" not in materialised(result)
    return " ".join(failed_steps(result).values())


def load(lineage: Lineage, strategy: str) -> Any:
    keys, ledger = trusted_keys(lineage.home.path), PromotionLedger(lineage.home.promotion_ledger)
    return load_champion(lineage.home.mlflow_uri, strategy, keys, ledger)


def test_production_promotes_by_the_approved_limits_and_by_no_others(
    loose: Lineage, shipped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    production(loose, monkeypatch, shipped)
    said = refusal(loose, "noise")
    assert f"approved is {shipped}" in said
    assert "cpcv_sharpe" not in said  # by its own limits every gate is open
    assert loose.champion("noise") is None


def test_production_that_does_not_know_what_was_approved_promotes_nothing(
    loose: Lineage, monkeypatch: pytest.MonkeyPatch
) -> None:
    production(loose, monkeypatch, None)
    assert APPROVED_VARIABLE in refusal(loose, "noise")
    monkeypatch.setenv(APPROVED_VARIABLE, "any")
    assert "sha256:<64 hexadecimal digits>" in refusal(loose, "noise")
    with pytest.raises(ConfigurationError, match=APPROVED_VARIABLE):
        load(loose, "edge")


def test_the_approved_limits_open_the_way_whatever_their_file_looks_like(
    lineage: Lineage, shipped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = lineage.configs / "gates.yaml"
    said = yaml.safe_load(file.read_text())
    edit(file, dict(reversed(said.items())))  # no comments, another order
    lineage.reload()
    production(lineage, monkeypatch, shipped)
    assert lineage.materialise("edge", ["promotion"]).success


def test_a_link_in_the_place_of_the_configuration_folder_hides_no_other_limits(
    lineage: Lineage, shipped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reviewed behind one target, loaded behind another: what counts is what was read."""
    production(lineage, monkeypatch, shipped)
    other = lineage.folder / "elsewhere"
    shutil.copytree(lineage.configs, other)
    edit(other / "gates.yaml", {**yaml.safe_load((other / "gates.yaml").read_text()), "sharpe_min": 1.1})
    shutil.move(lineage.configs, lineage.folder / "reviewed")
    lineage.configs.symlink_to(lineage.folder / "reviewed")
    lineage.reload()
    lineage.configs.unlink()
    lineage.configs.symlink_to(other)
    lineage.reload()
    assert lineage.materialise("edge", ["validation_report", "parity_report"]).success
    assert f"approved is {shipped}" in refusal(lineage, "edge")


def test_a_folder_named_configs_where_the_command_is_run_is_no_way_in(
    lineage: Lineage, shipped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = lineage.configs / "gates.yaml"
    edit(file, {**yaml.safe_load(file.read_text()), "sharpe_min": 1.1})
    monkeypatch.chdir(lineage.folder)  # ./configs is the looser one
    settings = load_settings(home=lineage.folder / "adopted")
    assert settings.gates.sharpe_min == 1.1
    lineage.reload()
    assert lineage.settings == settings
    assert lineage.materialise("edge", ["validation_report", "parity_report"]).success
    production(lineage, monkeypatch, shipped)
    assert f"approved is {shipped}" in refusal(lineage, "edge")


def test_a_plug_in_that_declares_a_gate_anew_is_other_limits(
    lineage: Lineage, shipped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is the reviewed one, word for word, without the key whose default was changed."""
    production(lineage, monkeypatch, shipped)
    gate = gates.find_gate("cpcv_sharpe")
    file = lineage.configs / "gates.yaml"
    said = yaml.safe_load(file.read_text())
    edit(file, {key: value for key, value in said.items() if key != "sharpe_min"})
    looser = replace(gate, limit=replace(gate.limit, default=-9.0))
    monkeypatch.setitem(gates._REGISTRY, gate.name, looser)
    with pytest.raises(ConfigurationError, match="no looser than any file may set"):
        lineage.reload()
    loose = replace(gate, limit=replace(gate.limit, default=0.6))  # above the floor
    monkeypatch.setitem(gates._REGISTRY, gate.name, loose)
    lineage.reload()
    assert lineage.settings.gates.sharpe_min == 0.6
    lineage.materialise("noise", REPORTS)
    assert f"approved is {shipped}" in refusal(lineage, "noise")


def test_a_plug_in_that_lets_a_gate_not_apply_is_other_limits(
    shipped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = gates.find_gate("cpcv_sharpe")
    settings = load_settings()
    for changed in (
        replace(gate, may_not_apply=True),
        replace(gate, limit=replace(gate.limit, offset=-9.0)),
        replace(gate, limit=replace(gate.limit, comparison="<=")),
    ):
        monkeypatch.setitem(gates._REGISTRY, gate.name, changed)
        assert gates_digest(settings.gates, settings.drift, settings.minima) != shipped
    monkeypatch.delitem(gates._REGISTRY, gate.name)
    assert gates_digest(settings.gates, settings.drift, settings.minima) != shipped


def test_what_was_promoted_by_loose_limits_elsewhere_is_told_and_not_served_in_production(
    loose: Lineage, shipped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert loose.materialise("noise", ["promotion"]).success  # a desk may do as it likes, under its own name
    entry = PromotionLedger(loose.home.promotion_ledger).entries("noise")[-1]
    assert entry.basis["limits"]["validation"]["sharpe_min"] == -8.8
    assert entry.basis["gates"] == gates_digest(
        loose.settings.gates, loose.settings.drift, loose.settings.minima
    )
    with capture_logs() as logged:
        assert load(loose, "noise") is not None
    (told,) = [line for line in logged if "looser limits than the shipped ones" in line["event"]]
    assert "sharpe_min -8.8, shipped 1.2" in told["limits"]
    said = loose.command("promotion", "show", "noise")[1]
    assert "sharpe_min -8.8, shipped 1.2" in said
    assert "promoted by other limits than those in force" in said
    assert "sharpe_min -8.8, in force 1.2" in said

    production(loose, monkeypatch, shipped)
    with pytest.raises(RegistryError, match="a promotion by approved limits"):
        load(loose, "noise")
    # What was approved earlier is still served, and nothing new is promoted by it.
    monkeypatch.setenv(APPROVED_VARIABLE, f"{shipped},{entry.basis['gates']}")
    assert load(loose, "noise") is not None
    assert f"approved is {shipped}" in refusal(loose, "noise")


def test_check_says_by_which_other_limits_a_report_was_judged(loose: Lineage) -> None:
    """Judged by loose limits, the shipped ones put back: the stored verdicts say pass."""
    status, said = loose.command("check", "-s", "noise", "--json", str(loose.folder / "out.json"))
    assert status in (1, 2), said
    outcomes = json.loads((loose.folder / "out.json").read_text())["results"]
    (sharpe,) = [outcome for outcome in outcomes if outcome["check"] == "cpcv_sharpe"]
    assert sharpe["outcome"] == "failed"
    assert "judged by other limits than those in force" in sharpe["description"]
    assert "sharpe_min -8.8, in force 1.2" in sharpe["description"]
    loose.reload()
    assert "judged under other limits than those in force" in refusal(loose, "noise")


def test_config_show_prints_the_digest_to_approve(lineage: Lineage, shipped: str) -> None:
    status, said = lineage.command("config", "show")
    assert status == 0
    assert f'"gates_digest": "{shipped}"' in said
    assert APPROVED_VARIABLE not in os.environ
