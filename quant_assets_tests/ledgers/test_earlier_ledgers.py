"""Ledgers that earlier versions wrote, byte by byte: they open, say the same, and go on."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from quant_assets.common.errors import LedgerError
from quant_assets.ledgers.promotions import PromotionLedger
from quant_assets.ledgers.trials import TrialLedger, TrialSnapshot, trial_of

NOW = datetime(2026, 3, 2, 21, 0, tzinfo=UTC)
DAYS = np.arange("2020-01-01", "2020-01-06", dtype="datetime64[D]")
PROMOTIONS = {
    "ledger.jsonl": '{"action":"promoted","actor":"dagster:manual","at":"2026-03-02T21:00:00+00:00","evidence":{"bundle":"bbbbbbbb"},"hash":"326f868095b0eda9a0f5bc69497abb93b33ad781cfe06b8ce534d1ef9f2548d3","index":0,"model_version":"1","previous":"0000000000000000000000000000000000000000000000000000000000000000","reasons":["all of 9 required gates are open"],"replaces":null,"run_id":"run-1","strategy":"planted_edge","subject":"aaaaaaaa"}\n{"action":"refused","actor":"dagster:manual","at":"2026-03-02T21:00:00+00:00","evidence":{},"hash":"ef56af01b3cf61851e351b2743a31e6be8e1aebf7ff63ae355298ab6124f199f","index":1,"model_version":"2","previous":"326f868095b0eda9a0f5bc69497abb93b33ad781cfe06b8ce534d1ef9f2548d3","reasons":["cpcv_sharpe: fail"],"replaces":null,"run_id":"run-1","strategy":"planted_edge","subject":"cccccccc"}\n{"action":"promoted","actor":"dagster:manual","at":"2026-03-02T21:00:00+00:00","evidence":{"bundle":"eeeeeeee"},"hash":"5f6cdfec64740c7dd2681a8299e55027c610ff6fe2b0c081689aba8acd87229d","index":2,"model_version":"3","previous":"ef56af01b3cf61851e351b2743a31e6be8e1aebf7ff63ae355298ab6124f199f","reasons":["all of 9 required gates are open"],"replaces":"1","run_id":"run-1","strategy":"planted_edge","subject":"dddddddd"}\n',  # noqa: E501
    "ledger.jsonl.head": '{"hash":"5f6cdfec64740c7dd2681a8299e55027c610ff6fe2b0c081689aba8acd87229d","index":2}',
    "ledger.jsonl.lock": "",
}
TRIALS = {
    "chain/00000001.json": '{"fingerprint":"one","identity_sha256":"28f2a75eece58f493c5464609ffd8a69d83739f9884231543a83be11de35d76a","number":1,"previous":"0000000000000000000000000000000000000000000000000000000000000000"}',  # noqa: E501
    "chain/00000002.json": '{"fingerprint":"two","identity_sha256":"a040b2257f3a243430d9a6a63d96f758ea2e1cb3fb784e8e5edf6cfe1f16a1de","number":2,"previous":"800fb4869f822244fb378914465c3ecf733d0f7f84e6ec6c239d789783df668d"}',  # noqa: E501
    "one.json": '{"fingerprint":"one","n_obs":5,"recorded_at":"2026-03-02T21:00:00+00:00","returns_sha256":"d424a1ac76874428b37bfd725a3a7e10e393dde043bba1ee6dd02d4aaa8099ff","run_id":"run-1","sessions_sha256":"2da51f92941128684801575132f335b3714a59aacdcbe6689e4a5478f037d3fb","sharpe_per_period":0.5642880936468347,"strategy":"planted_edge"}',  # noqa: E501
    "two.json": '{"fingerprint":"two","n_obs":5,"recorded_at":"2026-03-02T21:00:00+00:00","returns_sha256":"ce69c0f625c6dd9cb8bb79c4359386ca868aee392b98dd3d10eefaa68ed7603d","run_id":"run-1","sessions_sha256":"2da51f92941128684801575132f335b3714a59aacdcbe6689e4a5478f037d3fb","sharpe_per_period":0.31326095805861776,"strategy":"planted_edge"}',  # noqa: E501
}
# ln det(I + 80 C) / ln 81 of the two streams, which correlate at .872; their effective rank, as before, was 1.63
EFFECTIVE = pytest.approx(1.6918989154921038)
RETURNS = {"one": [0.01, -0.005, 0.02, 0.0, 0.0025], "two": [0.0, -0.005, 0.01, 0.001, 0.0025]}
SNAPSHOT = TrialSnapshot(
    book="planted_edge",
    sharpes=(0.5642880936468347, 0.31326095805861776),
    arrival=(0, 1),
    effective_number_of_trials=EFFECTIVE,
    digest="84a2ecc22f77ea05ab2e2353f8aaf0f03539c4fcf2416be9229c8328bb0f37d3",
    chain_length=2,
    chain_head="f5f443dd93a5909cfe8a45e5d863e8ef0252ad2328ea4071c590c20ea6560940",
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for folder, files in (("promotions", PROMOTIONS), ("trials/planted_edge", TRIALS)):
        for name, text in files.items():
            file = tmp_path / folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    objects = [DAYS.astype("<i8").tobytes(), *(np.array(r).tobytes() for r in RETURNS.values())]
    digests = (
        "2da51f92941128684801575132f335b3714a59aacdcbe6689e4a5478f037d3fb",
        "d424a1ac76874428b37bfd725a3a7e10e393dde043bba1ee6dd02d4aaa8099ff",
        "ce69c0f625c6dd9cb8bb79c4359386ca868aee392b98dd3d10eefaa68ed7603d",
    )
    for digest, data in zip(digests, objects, strict=True):
        file = tmp_path / "objects" / digest[:2] / digest
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return tmp_path


def test_an_earlier_trial_ledger_opens_and_goes_on(home: Path) -> None:
    ledger = TrialLedger(home)
    assert ledger.snapshot("planted_edge") == SNAPSHOT
    assert ledger.returns_matrix("planted_edge").T.tolist() == list(RETURNS.values())
    again = trial_of("planted_edge", "one", RETURNS["one"], DAYS, run_id="run-2", recorded_at="later")
    assert ledger.append(again, RETURNS["one"], DAYS).run_id == "run-1"
    other = trial_of("planted_edge", "three", RETURNS["one"][::-1], DAYS, run_id="run-2", recorded_at="later")
    ledger.append(other, RETURNS["one"][::-1], DAYS)
    assert ledger.snapshot("planted_edge", [SNAPSHOT.anchor]).chain_length == 3
    assert (home / "trials/planted_edge/chain/00000002.json").read_text() == TRIALS["chain/00000002.json"]


def test_an_earlier_promotion_ledger_opens_and_goes_on(home: Path) -> None:
    ledger = PromotionLedger(home / "promotions" / "ledger.jsonl")
    state = ledger.verify()
    assert (state.n_entries, state.torn_bytes) == (3, 0)
    assert state.head == "5f6cdfec64740c7dd2681a8299e55027c610ff6fe2b0c081689aba8acd87229d"
    assert [(e.action, e.replaces) for e in ledger.entries()] == [
        ("promoted", None), ("refused", None), ("promoted", "1"),
    ]  # fmt: skip
    added = ledger.append(
        "rolled_back", strategy="planted_edge", subject="a" * 8, model_version="1", reasons=("why",), evidence={},
        actor="me", at=NOW, run_id="run-2", replaces="3",
    )  # fmt: skip
    assert added.previous == state.head
    assert ledger.path.read_text().startswith(PROMOTIONS["ledger.jsonl"])
    assert ledger.verify().n_entries == 4
    assert all(entry.basis == {} for entry in ledger.entries())
    later = ledger.append(
        "promoted", strategy="planted_edge", subject="e" * 8, model_version="4", reasons=("why",), evidence={},
        actor="me", at=NOW, run_id="run-3", replaces="1", basis={"limits": {"validation": {"sharpe_min": 1.2}}},
    )  # fmt: skip
    assert ledger.entries()[-1] == later
    assert later.basis == {"limits": {"validation": {"sharpe_min": 1.2}}}
    assert ledger.path.read_text().startswith(PROMOTIONS["ledger.jsonl"])


def test_an_earlier_ledger_that_was_altered_is_still_refused(home: Path) -> None:
    file = home / "promotions" / "ledger.jsonl"
    file.write_text(file.read_text().replace("cpcv_sharpe: fail", "cpcv_sharpe: pass"))
    with pytest.raises(LedgerError, match="entry 1"):
        PromotionLedger(file).verify()
    link = home / "trials/planted_edge/chain/00000001.json"
    link.write_text(link.read_text().replace("28f2a75e", "28f2a75f"))
    with pytest.raises(LedgerError, match="chain"):
        TrialLedger(home).snapshot("planted_edge")
