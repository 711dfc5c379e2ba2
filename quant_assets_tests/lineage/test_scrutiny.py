"""Whether an event is believed: every single thing that it says has to be what its step signed, and still hold."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from quant_assets.artifacts.attestation import Material, Materialisation
from quant_assets.artifacts.bundle.signing import SIGNING_VARIABLE, TrustedKeys, development_key
from quant_assets.common.home import Home
from quant_assets.lineage import scrutiny
from quant_assets.lineage.artifact import Artifact, Held, Partitions
from quant_assets.lineage.configured import load_settings
from quant_assets.lineage.graph import Lineage, Node
from quant_assets.lineage.scrutiny import Evidence, attestation, disbelief, inputs_of, trusted_in

NAME = "pure_noise/validation_report"


@pytest.fixture(scope="module")
def node() -> Node:
    return Lineage(load_settings()).nodes["pure_noise", "validation_report"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    place = Home(str(tmp_path_factory.mktemp("home")))
    development_key(place.local)
    return place


@pytest.fixture(scope="module")
def inputs(home: Home) -> dict[str, Material]:
    parts = {year: Artifact("market/raw_bars", f"v{year}", f"s{year}", "table", home.store) for year in "12"}
    paths = Artifact("pure_noise/cpcv_paths", "vp", "sp", "table", home.store)
    return inputs_of({("market", "raw_bars"): Partitions(parts), ("pure_noise", "cpcv_paths"): paths})


@pytest.fixture(scope="module")
def evidence(node: Node, home: Home, inputs: dict[str, Material]) -> Evidence:
    artifact = Artifact(NAME, "version", "object", "json", home.store)
    made = Materialisation(NAME, "version", "object", "json", node.code_version, "print", inputs, "run")
    return Evidence(artifact, node.code_version, "print", "run", True, attestation(made, home))


def test_inputs_are_named_with_their_partitions(inputs: dict[str, Material]) -> None:
    assert inputs == {
        "market/raw_bars[1]": Material("v1", "s1"),
        "market/raw_bars[2]": Material("v2", "s2"),
        "pure_noise/cpcv_paths": Material("vp", "sp"),
    }


def test_what_a_step_signed_is_believed(
    evidence: Evidence, node: Node, home: Home, inputs: dict[str, Material]
) -> None:
    assert disbelief(evidence, NAME, node, inputs, trusted_in(home)) is None


ANOTHER = "the attestation of another version, asset or run"


@pytest.mark.parametrize(
    ("altered", "why"),
    [
        ({"artifact": {"version": "other"}}, ANOTHER),
        ({"artifact": {"sha256": "other"}}, ANOTHER),
        ({"artifact": {"media_type": "bytes"}}, ANOTHER),
        ({"code_version": "other"}, ANOTHER),
        ({"fingerprint": "other"}, ANOTHER),
        ({"run_id": "other"}, ANOTHER),
        ({"by_a_step": False}, "reported by no step of a run that this instance knows"),
        ({"envelope": None}, "no attestation: no step of this platform signed for it"),
        ({"envelope": {}}, "no attestation: no step of this platform signed for it"),
        ({"envelope": {"payload": "", "signatures": []}}, "an unreadable attestation"),
    ],
)
def test_an_event_that_says_anything_else_is_not(
    evidence: Evidence, node: Node, home: Home, inputs: dict[str, Material], altered: dict[str, Any], why: str
) -> None:
    if "artifact" in altered:
        altered = {"artifact": replace(evidence.artifact, **altered["artifact"])}
    assert disbelief(replace(evidence, **altered), NAME, node, inputs, trusted_in(home)) == why


def test_the_attestation_of_another_asset_is_not(
    evidence: Evidence, node: Node, home: Home, inputs: dict[str, Material]
) -> None:
    assert disbelief(evidence, "pure_noise/parity_report", node, inputs, trusted_in(home)) == ANOTHER


@pytest.mark.parametrize(
    "change",
    [
        {"pure_noise/cpcv_paths": Material("other", "sp")},
        {"pure_noise/cpcv_paths": Material("vp", "other")},
        {"market/raw_bars[3]": Material("v3", "s3")},
    ],
)
def test_what_was_made_from_anything_but_the_newest_is_not(
    evidence: Evidence, node: Node, home: Home, inputs: dict[str, Material], change: dict[str, Material]
) -> None:
    why = "made from other versions than the newest of what it reads"
    assert disbelief(evidence, NAME, node, {**inputs, **change}, trusted_in(home)) == why


def test_other_code_and_another_configuration_are_told_apart(
    node: Node, home: Home, inputs: dict[str, Material]
) -> None:
    code, _, configuration = node.code_version.partition(".")
    for version, why in (
        (f"0.{configuration}", "made by other code than that in force"),
        (f"{code}.0", "made under another configuration than that in force"),
    ):
        made = Materialisation(NAME, "version", "object", "json", version, "print", inputs, "run")
        artifact = Artifact(NAME, "version", "object", "json", home.store)
        evidence = Evidence(artifact, version, "print", "run", True, attestation(made, home))
        assert disbelief(evidence, NAME, node, inputs, trusted_in(home)) == why


def test_without_a_key_nothing_is_signed_and_nothing_believed(
    evidence: Evidence,
    node: Node,
    home: Home,
    inputs: dict[str, Material],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = Materialisation(NAME, "version", "object", "json", node.code_version, "print", inputs, "run")
    monkeypatch.setenv("QUANT_ASSETS_ENV", "production")
    assert attestation(made, home) == {}
    assert trusted_in(home) == TrustedKeys()
    said = disbelief(evidence, NAME, node, inputs, trusted_in(home))
    assert said is not None
    assert said.startswith("an attestation by the foreign key")
    monkeypatch.setenv(SIGNING_VARIABLE, str(development_key(tmp_path).path))
    assert attestation(made, home) != {}


@pytest.mark.parametrize("what", ["_other_again", "_failing_again"])
def test_any_error_while_evidence_is_found_out_again_is_a_reason_and_no_crash(
    monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def breaks(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("a forged table")

    lineage = Lineage(load_settings())
    node = lineage.nodes["planted_edge", "drift_report"]
    monkeypatch.setattr(scrutiny, "computed", breaks)
    monkeypatch.setattr(Node, "arguments", breaks)
    artifacts = {node.key: Held("planted_edge/drift_report", {"verdicts": []})}
    settled = ((),) if what == "_failing_again" else ()
    (reason,) = getattr(scrutiny, what)(lineage, [node], artifacts, {}, *settled)
    assert "again: ZeroDivisionError: a forged table" in reason
