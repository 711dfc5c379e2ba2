"""Every way around the signature and the payload scan, tried on real runs: the champion alias must not move."""

import json
import os
import re
from pathlib import Path

import dagster as dg
import pytest

from quant_assets.artifacts.bundle.bundle import Bundle
from quant_assets.artifacts.bundle.signing import (
    PUBLIC_FILE,
    SIGNING_VARIABLE,
    VERIFY_VARIABLE,
    development_key,
    sign_bundle,
    trusted_keys,
)
from quant_assets.common.errors import RegistryError
from quant_assets.common.store import encode
from quant_assets.defs.running import QUIET
from quant_assets.ledgers.promotions import PromotionLedger
from quant_assets.lineage.artifact import stated
from quant_assets.registry.champion import load_champion
from quant_assets_tests.e2e.lineage import Lineage, failed_steps, materialised


def refusal(lineage: Lineage, strategy: str = "edge") -> str:
    """Materialise ``promotion`` alone, which must fail, and return what it said."""
    result = lineage.materialise(strategy, ["promotion"])
    assert not result.success
    assert "promotion" not in materialised(result)
    (message,) = failed_steps(result).values()
    return message


def loaded(lineage: Lineage) -> Bundle | None:
    """What serving would get."""
    ledger = PromotionLedger(lineage.home.promotion_ledger)
    return load_champion(lineage.home.mlflow_uri, "edge", trusted_keys(lineage.home.path), ledger)


def stored(lineage: Lineage, *path: str) -> bytes:
    event = lineage.event(*path)
    assert event is not None
    return lineage.home.store.get(str(event.metadata["quant/object"].value))


def plant(lineage: Lineage, key: list[str], data: bytes) -> None:
    """Report a materialisation from outside, with an object and tags as the platform would write them."""
    event = lineage.event(*key)
    assert event is not None
    encoded = encode(data)
    lineage.home.store.put(data)
    lineage.instance.report_runless_asset_event(
        dg.AssetMaterialization(
            dg.AssetKey(key),
            metadata={
                **event.metadata,
                "quant/object": dg.MetadataValue.text(encoded.version),
                "quant/media_type": dg.MetadataValue.text("bytes"),
            },
            tags={**(event.tags or {}), "dagster/data_version": stated(encoded.version)},
        )
    )


def check_again(lineage: Lineage, asset: str, check: str) -> bool:
    """Evaluate one check on what is there, and whether it passed."""
    key = dg.AssetCheckKey(dg.AssetKey(["edge", asset]), check)
    job = dg.define_asset_job("one_check", dg.AssetSelection.checks(key))
    definitions = dg.Definitions.merge(lineage.definitions, dg.Definitions(jobs=[job]))
    result = definitions.resolve_job_def("one_check").execute_in_process(
        instance=lineage.instance, run_config=QUIET, raise_on_error=False
    )
    return all(evaluation.passed for evaluation in result.get_asset_check_evaluations()) and result.success


def test_a_run_signs_the_bundle_and_the_ledger_names_the_key(built: Lineage) -> None:
    key = development_key(built.home.path)
    (entry,) = built.decisions("edge")
    assert entry.evidence["signing_key"] == key.fingerprint
    champion = loaded(built)
    assert champion is not None
    assert (champion.fingerprint, champion.manifest.subject) == (key.fingerprint, built.champion("edge"))


def test_a_second_run_signs_nothing_again(lineage: Lineage) -> None:
    before = stored(lineage, "edge", "bundle_signature"), stored(lineage, "edge", "bundle")
    assert lineage.materialise("edge", ["bundle", "bundle_signature", "training_record", "promotion"]).success
    assert (stored(lineage, "edge", "bundle_signature"), stored(lineage, "edge", "bundle")) == before
    assert len(lineage.decisions("edge")) == 1


@pytest.mark.parametrize(
    ("forge", "found"),
    [
        (lambda bundle, key: b"", "unsigned"),
        (lambda bundle, key: b"{}", "unreadable signature"),
        (sign_bundle, "foreign key"),
    ],
)
def test_an_unsigned_bundle_or_one_signed_by_a_foreign_key_is_refused(
    lineage: Lineage, tmp_path: Path, forge: object, found: str
) -> None:
    assert callable(forge)
    forged = forge(stored(lineage, "edge", "bundle"), development_key(tmp_path / "stranger"))
    plant(lineage, ["edge", "bundle_signature"], forged)
    assert not check_again(lineage, "bundle_signature", "signature")
    said = refusal(lineage)
    assert found in said
    assert "signature on edge/bundle_signature" in said
    (*_, entry) = lineage.decisions("edge")
    assert entry.action == "refused"
    assert "signing_key" not in entry.evidence


def test_the_signature_of_another_bundle_is_refused(lineage: Lineage) -> None:
    plant(lineage, ["edge", "bundle_signature"], stored(lineage, "noise", "bundle_signature"))
    assert not check_again(lineage, "bundle_signature", "signature")
    assert "signature of another bundle" in refusal(lineage)


def test_a_bundle_that_was_swapped_after_signing_is_refused(lineage: Lineage) -> None:
    plant(lineage, ["edge", "bundle"], stored(lineage, "noise", "bundle"))
    said = refusal(lineage)
    assert "altered after signing" in said
    assert "payload_scan on edge/bundle: evaluated an older materialization" in said
    assert lineage.champion("edge") is not None


def test_a_bundle_of_another_strategy_with_its_own_good_signature_is_refused(lineage: Lineage) -> None:
    for asset in ("bundle", "bundle_signature"):
        plant(lineage, ["edge", asset], stored(lineage, "noise", asset))
    assert "bundle: made from another model version" in refusal(lineage)


@pytest.mark.parametrize(("asset", "check"), [("bundle_signature", "signature"), ("bundle", "payload_scan")])
def test_a_check_that_was_not_run_on_the_newest_version_closes_the_gate(
    lineage: Lineage, asset: str, check: str
) -> None:
    assert lineage.materialise("edge", ["promotion"]).success  # open before
    lineage.materialise("edge", [asset], checks=False)
    assert f"{check} on edge/{asset}: evaluated an older materialization" in refusal(lineage)
    assert check_again(lineage, asset, check)
    assert lineage.materialise("edge", ["promotion"]).success


def test_a_payload_in_the_bundle_fails_its_check(lineage: Lineage) -> None:
    plant(lineage, ["edge", "bundle"], b"#!/bin/sh\n")
    assert not check_again(lineage, "bundle", "payload_scan")
    assert "payload_scan on edge/bundle: did not pass" in refusal(lineage)


def test_trusting_nobody_and_trusting_somebody_else_close_the_gate(
    lineage: Lineage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = development_key(tmp_path / "stranger")
    public = tmp_path / "stranger" / "keys" / "bundle_signing.pub"
    monkeypatch.setenv(VERIFY_VARIABLE, str(public))
    assert stranger.fingerprint != development_key(lineage.home.path).fingerprint
    assert "foreign key" in refusal(lineage)
    with pytest.raises(RegistryError, match="foreign key"):
        loaded(lineage)
    monkeypatch.setenv(VERIFY_VARIABLE, ":")
    assert "no signature can be believed" in refusal(lineage)
    monkeypatch.delenv(VERIFY_VARIABLE)
    for file in (lineage.home.path / "keys").iterdir():
        file.unlink()
    assert "no signature can be believed" in refusal(lineage)


def test_production_without_keys_neither_signs_nor_promotes(
    lineage: Lineage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANT_ASSETS_ENV", "production")
    assert VERIFY_VARIABLE in refusal(lineage)
    result = lineage.materialise("edge", ["bundle_signature"])
    assert SIGNING_VARIABLE in " ".join(failed_steps(result).values())


def test_another_key_signs_anew_and_the_champion_carries_the_new_signature(
    lineage: Lineage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = development_key(tmp_path / "new")
    monkeypatch.setenv(SIGNING_VARIABLE, str(new.path))
    subject = lineage.champion("edge")
    chain = ["bundle_signature", "training_record", "promotion"]
    # The old key signed all that the bundle stands on: until that was signed anew, it has to be trusted too.
    assert "foreign key" in " ".join(failed_steps(lineage.materialise("edge", chain)).values())
    publics = (lineage.home.path / "keys" / PUBLIC_FILE, new.path.with_name(PUBLIC_FILE))
    monkeypatch.setenv(VERIFY_VARIABLE, os.pathsep.join(map(str, publics)))
    assert lineage.materialise("edge", chain).success
    champion = loaded(lineage)
    assert champion is not None
    assert champion.fingerprint == new.fingerprint
    assert lineage.champion("edge") == subject
    assert re.fullmatch("[0-9a-f]{64}", json.dumps(champion.fingerprint).strip('"'))
