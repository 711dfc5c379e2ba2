"""Every way to serve another model than the one that was admitted, tried on real runs: the signed ledger decides."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import dagster as dg
import pytest
from mlflow import MlflowClient

from quant_assets.artifacts.bundle.bundle import Bundle
from quant_assets.artifacts.bundle.signing import trusted_keys
from quant_assets.common.errors import ArtifactError, RegistryError
from quant_assets.common.hashing import bytes_digest, canonical_json
from quant_assets.defs.storage import Home as HomeResource
from quant_assets.ledgers.promotions import LedgerEntry, PromotionLedger
from quant_assets.registry.champion import contradictions, load_champion
from quant_assets_tests.e2e.lineage import Lineage, failed_steps, lineage_in, materialised

pytestmark = pytest.mark.drill


@pytest.fixture(scope="module")
def reigns_folder(built_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The edge market with two champions, one after the other, whatever the gates say of the second."""
    folder = tmp_path_factory.mktemp("reigns") / "copy"
    shutil.copytree(built_folder, folder)
    with lineage_in(folder) as lineage:
        lineage.change_strategy("edge", seed=8)
        lineage.loosen()
        (outcome,) = lineage.run("edge")
    assert outcome.decision == "promoted", outcome.reasons
    return folder


@pytest.fixture
def reigns(reigns_folder: Path, tmp_path: Path) -> Iterator[Lineage]:
    shutil.copytree(reigns_folder, tmp_path / "copy")
    with lineage_in(tmp_path / "copy") as lineage:
        yield lineage


def client_of(lineage: Lineage) -> MlflowClient:
    """What somebody with write access to MLflow has."""
    return MlflowClient(lineage.home.mlflow_uri, lineage.home.mlflow_uri)


def ledger_of(lineage: Lineage) -> PromotionLedger:
    return PromotionLedger(lineage.home.promotion_ledger)


def loaded(lineage: Lineage, strategy: str) -> Bundle | None:
    """What serving would get."""
    keys = trusted_keys(lineage.home.path)
    return load_champion(lineage.home.mlflow_uri, strategy, keys, ledger_of(lineage))


def put_in_charge(lineage: Lineage, strategy: str, version: str) -> None:
    """Move the alias by hand, and write whatever tags a promotion would have written."""
    client = client_of(lineage)
    entry = lineage.decisions(strategy)[-1]
    archive = lineage.artifact(strategy, "bundle").data()
    tags = {
        "quant.gate": "passed",
        "quant.gate_reasons": "",
        "quant.bundle_sha256": bytes_digest(archive),
        "quant.ledger_entry": entry.hash,
    }
    for name, value in tags.items():
        client.set_model_version_tag(strategy, version, name, value)
    client.set_registered_model_alias(strategy, "champion", version)


def tick(lineage: Lineage, cursor: str | None = None) -> dg.SensorResult:
    context = dg.build_sensor_context(
        instance=lineage.instance,
        cursor=cursor,
        definitions=lineage.definitions,
        resources={"home": HomeResource(root=lineage.home.root)},
    )
    result = lineage.definitions.resolve_sensor_def("champion_agreement")(context)
    assert isinstance(result, dg.SensorResult)
    return result


def append_by_hand(lineage: Lineage, forged: LedgerEntry) -> LedgerEntry:
    """Write a line and its head as the ledger itself would, with every hash right."""
    path = Path(str(lineage.home.promotion_ledger))
    last = ledger_of(lineage).entries()[-1]
    forged = replace(forged, index=last.index + 1, previous=last.hash, hash="")
    forged = replace(forged, hash=forged.expected_hash())
    with path.open("ab") as file:
        file.write(forged.line() + b"\n")
    path.with_name(f"{path.name}.head").write_bytes(
        canonical_json({"index": forged.index, "hash": forged.hash})
    )
    assert ledger_of(lineage).entries()[-1] == forged  # the chain alone sees nothing
    return forged


def signatures_of(lineage: Lineage) -> Path:
    return Path(str(lineage.home.promotion_ledger)).with_suffix(".signatures")


# ------------------------------------------------------------------------------------- write access to MLflow alone


def test_a_refused_model_under_the_alias_is_not_loaded(lineage: Lineage) -> None:
    put_in_charge(lineage, "noise", "1")
    assert lineage.champion("noise") is not None  # the alias says so
    with pytest.raises(RegistryError, match="the ledger has none"):
        loaded(lineage, "noise")


def test_an_earlier_champion_under_the_alias_is_not_loaded(reigns: Lineage) -> None:
    first, second = (e.subject for e in reigns.decisions("edge"))
    put_in_charge(reigns, "edge", "1")
    assert reigns.champion("edge") == first
    champion = loaded(reigns, "edge")
    assert champion is not None
    assert champion.manifest.subject == second


def test_a_deleted_alias_takes_nobody_out_of_charge(lineage: Lineage) -> None:
    client_of(lineage).delete_registered_model_alias("edge", "champion")
    champion = loaded(lineage, "edge")
    assert champion is not None
    assert champion.manifest.subject == lineage.version("edge", "ensemble")


def test_the_bundle_of_an_earlier_champion_in_the_files_of_the_present_one_is_refused(
    reigns: Lineage,
) -> None:
    client = client_of(reigns)
    versions = {n: client.get_model_version("edge", n) for n in ("1", "2")}
    folders = {n: Path(client.download_artifacts(str(v.run_id), "")) for n, v in versions.items()}
    for tag in ("quant.bundle_sha256", "quant.subject"):
        client.set_model_version_tag("edge", "2", tag, versions["1"].tags[tag])
    names = ("bundle.zip", "bundle.sig")
    own = {name: (folders["2"] / name).read_bytes() for name in names}  # MLflow's files are not copied
    try:
        for name in names:
            shutil.copy(folders["1"] / name, folders["2"] / name)
        with pytest.raises(RegistryError, match=r"archive .* instead of"):
            loaded(reigns, "edge")
    finally:
        for name, data in own.items():
            (folders["2"] / name).write_bytes(data)


def test_what_was_moved_by_hand_is_reported_by_check_sensor_and_command_until_it_is_set_right(
    reigns: Lineage,
) -> None:
    assert contradictions(reigns.home, "edge") == ()
    assert reigns.command("promotion", "show", "edge")[0] == 0
    first = tick(reigns)
    assert {r.tags["quant/strategy"] for r in first.run_requests or []} == {"edge"}
    assert not tick(reigns, first.cursor).run_requests
    assert reigns.materialise("edge", ["champion"]).success

    put_in_charge(reigns, "edge", "1")
    (request,) = tick(reigns, first.cursor).run_requests or []
    assert "at version 1, the ledger has version 2" in request.tags["quant/reason"]
    failed = reigns.materialise("edge", [k.path[-1] for k in request.asset_selection or []])
    assert not failed.success
    (evaluation,) = failed.get_asset_check_evaluations()
    assert (evaluation.check_name, evaluation.passed) == ("ledger_agreement", False)
    assert "at version 1, the ledger has version 2" in str(evaluation.description)
    status, said = reigns.command("promotion", "show", "edge")
    assert status == 1
    assert "at version 1, the ledger has version 2" in said

    assert reigns.command("promotion", "realign", "edge")[0] == 0
    assert reigns.command("promotion", "show", "edge")[0] == 0
    assert reigns.materialise("edge", ["champion"]).success


def test_a_refused_model_under_the_alias_is_reported_and_taken_out(
    lineage: Lineage,
) -> None:
    put_in_charge(lineage, "noise", "1")
    asked = {r.tags["quant/strategy"]: r.tags["quant/reason"] for r in tick(lineage).run_requests or []}
    assert "the ledger has no champion" in asked["noise"]
    assert "champion" not in materialised(lineage.materialise("noise", ["champion"]))
    assert lineage.command("promotion", "show")[0] == 1
    assert lineage.command("promotion", "realign", "noise")[0] == 0
    assert lineage.champion("noise") is None


# ------------------------------------------------------------------------------------- the way back is a roll-back


def test_an_earlier_model_comes_back_by_a_signed_roll_back_with_operator_and_reason(
    reigns: Lineage,
) -> None:
    first, second = (e.subject for e in reigns.decisions("edge"))
    arguments = ("rollback", "edge", "--operator", "jane", "--reason", "live drawdown", "--champion")
    assert "the one this decision was compared with" in reigns.command("promotion", *arguments, first)[1]
    assert reigns.command("promotion", *arguments, second[:12])[0] == 0
    champion = loaded(reigns, "edge")
    assert champion is not None
    assert champion.manifest.subject == first
    entry = ledger_of(reigns).entries("edge")[-1]
    assert (entry.action, entry.actor, entry.reasons) == ("rolled_back", "operator:jane", ("live drawdown",))
    assert ledger_of(reigns).signature(entry) is not None
    assert contradictions(reigns.home, "edge") == ()
    assert reigns.materialise("edge", ["champion"]).success
    assert reigns.artifact("edge", "champion").json()["subject"] == first
    status, _ = reigns.command("promotion", *arguments, second[:12])
    assert status != 0  # it is not done twice


# ------------------------------------------------------------------- write access to the ledger too, without the key


def _unsigned(lineage: Lineage, entry: LedgerEntry) -> None:
    assert ledger_of(lineage).signature(entry) is None


def _with_the_signature_of_another_entry(lineage: Lineage, entry: LedgerEntry) -> None:
    (good,) = signatures_of(lineage).glob(f"{ledger_of(lineage).entries('edge')[0].hash}.sig")
    shutil.copy(good, good.with_name(f"{entry.hash}.sig"))


def _with_the_signature_of_a_bundle(lineage: Lineage, entry: LedgerEntry) -> None:
    signature = lineage.artifact("noise", "bundle_signature").data()
    (signatures_of(lineage) / f"{entry.hash}.sig").write_bytes(signature)


def _signed_by_a_stranger(lineage: Lineage, entry: LedgerEntry) -> None:
    from quant_assets.artifacts.bundle.signing import development_key
    from quant_assets.common.home import Home
    from quant_assets.registry.standing import ledger_keys

    development_key(lineage.folder / "stranger")
    signature = ledger_keys(Home(str(lineage.folder / "stranger"))).seal(entry.line())
    (signatures_of(lineage) / f"{entry.hash}.sig").write_bytes(signature)


@pytest.mark.parametrize(
    "sign",
    [_unsigned, _with_the_signature_of_another_entry, _with_the_signature_of_a_bundle, _signed_by_a_stranger],
)
def test_a_promotion_that_somebody_wrote_into_the_ledger_serves_nothing(
    lineage: Lineage, sign: object
) -> None:
    (refused,) = ledger_of(lineage).entries("noise")
    bundle = bytes_digest(lineage.artifact("noise", "bundle").data())
    forged = replace(refused, action="promoted", evidence={**refused.evidence, "bundle": bundle})
    forged = append_by_hand(lineage, forged)
    assert callable(sign)
    sign(lineage, forged)
    with pytest.raises((RegistryError, ArtifactError), match="signature of a trusted key"):
        loaded(lineage, "noise")
    result = lineage.materialise("noise", ["promotion"])  # would complete the move that "was cut short"
    assert "signature of a trusted key" in " ".join(failed_steps(result).values())
    assert lineage.champion("noise") is None
    put_in_charge(lineage, "noise", "1")
    with pytest.raises(RegistryError, match="signature of a trusted key"):
        loaded(lineage, "noise")


def test_a_ledger_whose_end_was_cut_off_brings_no_earlier_model_back(reigns: Lineage) -> None:
    path = Path(str(reigns.home.promotion_ledger))
    entries = ledger_of(reigns).entries()
    assert [entry.action for entry in entries[-2:]] == ["promoted", "shown"]
    kept = entries[:-2]
    path.write_bytes(b"".join(entry.line() + b"\n" for entry in kept))
    head = {"index": kept[-1].index, "hash": kept[-1].hash}
    path.with_name(f"{path.name}.head").write_bytes(canonical_json(head))
    client_of(reigns).set_registered_model_alias("edge", "champion", "1")
    with pytest.raises(RegistryError, match="that the registry remembers for version 2"):
        loaded(reigns, "edge")
    assert any("registry remembers" in reason for reason in contradictions(reigns.home, "edge"))


def test_every_entry_of_a_run_is_signed_refusals_too(lineage: Lineage) -> None:
    ledger = ledger_of(lineage)
    assert all(ledger.signature(entry) for entry in ledger.entries())
    status, said = lineage.command("promotion", "show")
    assert (status, said.count("nobody")) == (0, 0)
    assert {asdict(e)["action"] for e in ledger.entries()} == {"promoted", "refused", "shown"}
    assert json.loads(ledger.entries()[0].line())["hash"] == ledger.entries()[0].hash
