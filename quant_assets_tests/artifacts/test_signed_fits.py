"""Kept fits are believed under the platform's signature, about exactly what was asked for; else made again."""

import json
import shutil
from pathlib import Path

import pytest

from quant_assets.artifacts.attestation import Materialisation, attest
from quant_assets.artifacts.bundle.signing import signing_key
from quant_assets.artifacts.signed_fits import KeptFits
from quant_assets.common.hashing import bytes_digest
from quant_assets.common.home import Home

KEY, OTHER = "a" * 64, "ab" * 32
DATA, FORGED = b"predictions of a split", b"predictions too good to be true"


@pytest.fixture
def fits(tmp_path: Path) -> KeptFits:
    fits = KeptFits(Home(str(tmp_path)), "step", "run-1")
    fits.keep(KEY, DATA)
    return fits


def file_of(fits: KeptFits, key: str = KEY) -> Path:
    return Path(str(fits.home.path)) / "fits" / fits.kind / key[:2] / f"{key}.json"


def forged(fits: KeptFits, asset: str, key: str, signer: Path) -> str:
    sha256 = fits.home.store.put(FORGED)
    made = Materialisation(asset, sha256, sha256, "bytes", "", key, {}, "run-2")
    return json.dumps(attest(made, signing_key(signer)))


def test_what_is_kept_is_found_by_whoever_asks_for_it(fits):
    assert fits.find(KEY) == DATA
    assert KeptFits(fits.home, "step", "run-9").find(KEY) == DATA
    assert fits.find(OTHER) is None


def test_the_newest_of_two_with_one_name_is_found(fits):
    fits.keep(KEY, b"again")
    assert fits.find(KEY) == b"again"


def test_bytes_that_were_altered_are_not_found(fits):
    path = Path(str(fits.home.store.path(bytes_digest(DATA))))
    path.chmod(0o600)
    path.write_bytes(FORGED)
    assert fits.find(KEY) is None


def test_bytes_that_are_gone_are_not_found(fits):
    Path(str(fits.home.store.path(bytes_digest(DATA)))).unlink()
    assert fits.find(KEY) is None


def test_a_statement_of_a_foreign_key_is_not_believed(fits, tmp_path):
    file_of(fits).write_text(forged(fits, "fits:step", KEY, tmp_path / "elsewhere"))
    assert fits.find(KEY) is None


def test_a_statement_that_names_other_bytes_than_were_signed_is_not_believed(fits):
    import base64

    envelope = json.loads(file_of(fits).read_text())
    said = base64.b64decode(envelope["payload"]).replace(
        bytes_digest(DATA).encode(), fits.home.store.put(FORGED).encode()
    )
    envelope["payload"] = base64.b64encode(said).decode()
    file_of(fits).write_text(json.dumps(envelope))
    assert fits.find(KEY) is None


def test_a_statement_about_another_fit_is_not_taken_for_this_one(fits):
    fits.keep(OTHER, FORGED)
    file_of(fits).write_bytes(file_of(fits, OTHER).read_bytes())
    assert fits.find(KEY) is None


def test_a_statement_about_an_asset_is_none_about_a_fit(fits, tmp_path):
    file_of(fits).write_text(forged(fits, "planted_edge/cpcv_predictions", KEY, tmp_path))
    assert fits.find(KEY) is None


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"payload": 1}', "not json"])
def test_an_unreadable_statement_is_not_believed(fits, text):
    file_of(fits).write_text(text)
    assert fits.find(KEY) is None


def test_what_a_draft_made_is_never_read_by_a_step(fits):
    draft = KeptFits(fits.home, "draft", "try")
    draft.keep(OTHER, FORGED)
    assert draft.find(OTHER) == FORGED
    assert fits.find(OTHER) is None
    file_of(fits, OTHER).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(file_of(draft, OTHER), file_of(fits, OTHER))
    assert fits.find(OTHER) is None


def test_without_a_key_to_sign_with_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("QUANT_ASSETS_ENV", "production")
    fits = KeptFits(Home(str(tmp_path)), "step", "run-1")
    fits.keep(KEY, DATA)
    assert not (tmp_path / "fits").exists()
    assert fits.find(KEY) is None
