"""``quant-assets model`` as a user types it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from quant_assets.artifacts.bundle.signing import development_key
from quant_assets.cli.main import app
from quant_assets.common.errors import QuantAssetsError
from quant_assets_tests.e2e.lineage import Lineage


class Desk:
    """The command in this process, on a home whose configuration folder is beside it."""

    def __init__(self, lineage: Lineage) -> None:
        self.lineage = lineage

    def __call__(self, *arguments: str) -> tuple[int, str]:
        """Exit code and everything that was said; a platform error is code 2, as ``main`` makes it."""
        result = CliRunner().invoke(app, ["model", *arguments])
        if isinstance(result.exception, QuantAssetsError):
            return 2, str(result.exception)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output


@pytest.fixture
def desk(lineage: Lineage, monkeypatch: pytest.MonkeyPatch) -> Desk:
    configs = lineage.folder.parent / "configs"
    lineage.configs.rename(configs)
    monkeypatch.setenv("QUANT_ASSETS_HOME", str(lineage.folder))
    monkeypatch.setenv("QUANT_ASSETS_CONFIGS", str(configs))
    return Desk(lineage)


@pytest.mark.parametrize("command", ["show", "verify", "export", "compare"])
def test_help_says_what_it_does_with_an_example_and_the_exit_codes(command: str) -> None:
    said = CliRunner().invoke(app, ["model", command, "--help"])
    assert said.exit_code == 0
    text = " ".join(said.output.split())
    assert f"Example: quant-assets model {command}" in text
    assert "code 0" in text
    assert "--json" in text


def test_show_says_what_the_champion_is(desk: Desk, tmp_path: Path) -> None:
    code, said = desk("show", "edge", "--json", str(tmp_path / "show.json"))
    assert code == 0, said
    shown = json.loads((tmp_path / "show.json").read_text())
    assert shown["subject"] == desk.lineage.version("edge", "ensemble")
    assert shown["signing_key"] == development_key(desk.lineage.folder).fingerprint
    assert shown["upstream"]["training_set"] == desk.lineage.version("edge", "training_set")
    assert {v["gate"]: v["status"] for v in shown["verdicts"]}["cpcv_sharpe"] == "pass"
    assert shown["metrics"]["sharpe_annual.median"] > 1.2
    assert "native/xgboost.json" in shown["files"]
    for text in (shown["subject"], "edge@champion", "registry version", "rsi_14", "cpcv_sharpe"):
        assert text in said


def test_a_refused_candidate_has_no_champion_and_can_be_shown_as_candidate(desk: Desk) -> None:
    code, said = desk("show", "noise")
    assert code == 2
    assert "noise@candidate" in said
    code, said = desk("show", "noise@candidate")
    assert code == 0
    assert "fail" in said


def test_names_that_do_not_exist_are_answered_with_the_closest_one(desk: Desk) -> None:
    assert "did you mean 'edge'" in desk("show", "edgy")[1]
    assert "did you mean 'champion'" in desk("verify", "edge@champoin")[1]
    assert desk("verify", "none.zip")[0] == 2
    assert "no such file" in desk("verify", "none.zip")[1]


def test_an_empty_home_says_what_to_run(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANT_ASSETS_HOME", str(tmp_path / "empty"))
    code, said = desk("show", "edge")
    assert code == 2
    assert "run quant-assets run --strategy edge first" in said


def test_export_writes_what_verify_accepts_and_overwrites_nothing(desk: Desk, tmp_path: Path) -> None:
    folder = tmp_path / "release"
    code, said = desk("export", "edge", "--to", str(folder), "--unpacked")
    assert code == 0, said
    written = {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()}
    assert {"bundle.zip", "bundle.sig", "unpacked/model.onnx", "unpacked/native/lightgbm.txt"} <= written
    assert desk("verify", str(folder / "bundle.zip"))[0] == 0
    before = (folder / "bundle.sig").read_bytes()
    (folder / "bundle.zip").unlink()
    code, said = desk("export", "edge", "--to", str(folder))
    assert code == 2
    assert "bundle.sig" in said
    assert (folder / "bundle.sig").read_bytes() == before
    assert not (folder / "bundle.zip").exists()


def test_verify_lists_every_step_and_exits_1_on_a_refusal(desk: Desk, tmp_path: Path) -> None:
    assert desk("export", "edge", "--to", str(tmp_path / "out"))[0] == 0
    bundle, report = tmp_path / "out" / "bundle.zip", tmp_path / "steps.json"
    public = desk.lineage.folder / "keys" / "bundle_signing.pub"
    code, said = desk("verify", str(bundle), "--key", str(public), "--json", str(report))
    assert code == 0, said
    steps = json.loads(report.read_text())["steps"]
    assert [step["status"] for step in steps] == ["passed"] * 8
    champion = desk("verify", "edge")
    assert champion[0] == 0
    assert "as promoted" in champion[1]

    stranger = development_key(tmp_path / "stranger")
    foreign = tmp_path / "stranger" / "keys" / "bundle_signing.pub"
    code, said = desk("verify", str(bundle), "--key", str(foreign), "--json", str(report))
    assert code == 1
    status = {step["step"]: step["status"] for step in json.loads(report.read_text())["steps"]}
    assert status["trusted key"] == "failed"
    assert status["native models"] == "not run"
    assert stranger.fingerprint[:12] in said

    tampered = bytearray(bundle.read_bytes())
    tampered[len(tampered) // 2] ^= 1
    bundle.write_bytes(tampered)
    for command in (
        ("verify", str(bundle)),
        ("show", str(bundle)),
        ("export", str(bundle), "--to", str(tmp_path)),
    ):
        assert desk(*command)[0] == 1
    assert not (tmp_path / "bundle.zip").exists()
    (tmp_path / "out" / "bundle.sig").unlink()
    code, said = desk("verify", str(bundle))
    assert code == 1
    assert "unsigned" in said


def test_compare_with_itself_finds_no_difference(desk: Desk, tmp_path: Path) -> None:
    code, said = desk("compare", "edge", "edge@candidate", "--json", str(tmp_path / "same.json"))
    assert code == 0, said
    same = json.loads((tmp_path / "same.json").read_text())
    assert all(line["same"] for line in same["lines"])
    agreement = same["agreement"]
    rows = json.loads((tmp_path / "same.json").read_text())["a"]["upstream"]["rows"]
    assert agreement == {
        "rows": int(rows), "rank_correlation": pytest.approx(1.0), "flipped_sign": 0, "flipped_half": 0,
    }  # fmt: skip


def test_compare_of_two_models_shows_metrics_verdicts_upstream_and_scores(desk: Desk, tmp_path: Path) -> None:
    code, said = desk("compare", "edge", "noise@candidate", "--json", str(tmp_path / "two.json"))
    assert code == 0, said
    two = json.loads((tmp_path / "two.json").read_text())
    lines = {(line["kind"], line["name"]): line for line in two["lines"]}
    assert lines["verdict", "cpcv_sharpe"]["a"].startswith("pass")
    assert lines["verdict", "cpcv_sharpe"]["b"].startswith("fail")
    assert not lines["upstream", "bars"]["same"]
    assert not lines["model", "recipe"]["same"]
    assert two["agreement"]["rank_correlation"] < 0.9
    assert two["agreement"]["flipped_sign"] > 0
    for text in ("sharpe_annual.median", "flipped between long and short", "A: edge@champion"):
        assert text in said
