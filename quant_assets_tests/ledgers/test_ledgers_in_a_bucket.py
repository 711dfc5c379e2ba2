"""Both ledgers in an object store: nothing is lost to another writer, and everything altered is named."""

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from upath import UPath

from quant_assets.common.errors import LedgerError, StorageError
from quant_assets.common.files import located
from quant_assets.ledgers.chain import Chain, RecordFiles
from quant_assets.ledgers.promotions import GENESIS, PROMOTIONS, LedgerEntry, PromotionLedger
from quant_assets.ledgers.trials import Trial, TrialLedger, trial_of

NOW = datetime(2026, 3, 2, 21, 0, tzinfo=UTC)
DAYS = np.arange("2020-01-01", "2020-03-01", dtype="datetime64[D]")


def promote(ledger: PromotionLedger, number: int, action: Any = "promoted", **changes: Any) -> LedgerEntry:
    fields: dict[str, Any] = {
        "strategy": "planted_edge", "subject": f"subject-{number}", "model_version": str(number),
        "reasons": ("all gates open",), "evidence": {}, "actor": "a", "at": NOW, "run_id": "run-1",
    }  # fmt: skip
    return ledger.append(action, **(fields | changes))


def record(ledger: TrialLedger, name: str, seed: int) -> Trial:
    returns = np.random.default_rng(seed).normal(0.0005, 0.01, len(DAYS))
    return ledger.append(trial_of("edge", name, returns, DAYS, run_id="r", recorded_at="t"), returns, DAYS)


@pytest.fixture(params=["memory", "s3"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        return f"{request.getfixturevalue('bucket')}/home"
    return f"memory://{tmp_path.name}/home"


@pytest.fixture
def promotions(home: str) -> PromotionLedger:
    filled = PromotionLedger(f"{home}/promotions/ledger.jsonl")
    for number in range(1, 5):
        promote(filled, number)
    return filled


def entry_file(home: str, position: int) -> UPath:
    found = located(f"{home}/promotions/ledger/{position + 1:08d}.json")
    assert isinstance(found, UPath)
    return found


def head_file(home: str, position: int) -> UPath:
    return UPath(entry_file(home, position).parent / "acknowledged" / f"{position + 1:08d}.json")


# ------------------------------------------------------------------------------------------------ as on a disk


def test_trials_in_a_bucket_add_up_to_what_they_do_on_a_disk(home: str, tmp_path: Path) -> None:
    there, here = TrialLedger(home), TrialLedger(tmp_path)
    for seed, name in enumerate(("c", "a", "b", "a")):
        record(there, name, ord(name))
        record(here, name, ord(name))
        assert there.snapshot("edge") == here.snapshot("edge"), seed
    assert there.trials("edge") == here.trials("edge")
    assert there.returns_matrix("edge").tolist() == here.returns_matrix("edge").tolist()
    assert there.snapshot("unknown").n_trials == 0
    before = here.snapshot("edge")
    assert TrialLedger(UPath(home)).snapshot("edge", [before.anchor]) == before


def test_entries_in_a_bucket_are_those_of_a_disk(
    home: str, promotions: PromotionLedger, tmp_path: Path
) -> None:
    here = PromotionLedger(tmp_path / "ledger.jsonl")
    for number in range(1, 5):
        promote(here, number)
    assert promotions.entries() == here.entries()
    assert promotions.verify() == here.verify()
    assert PromotionLedger(UPath(f"{home}/promotions/ledger.jsonl")).entries("planted_edge") == here.entries()
    refused = promote(promotions, 9, "refused")
    assert promote(promotions, 9, "refused", run_id="run-2") == refused
    assert promotions.verify().n_entries == 5


def test_an_empty_ledger_in_a_bucket_verifies(home: str) -> None:
    state = PromotionLedger(f"{home}/promotions/ledger.jsonl").verify()
    assert (state.n_entries, state.head, state.torn_bytes) == (0, GENESIS, 0)


# --------------------------------------------------------------------------------------------- what is noticed


@pytest.mark.parametrize("position", range(4))
@pytest.mark.parametrize("alteration", ["edited", "cut short", "removed"])
def test_an_altered_entry_is_named(
    home: str, promotions: PromotionLedger, position: int, alteration: str
) -> None:
    file = entry_file(home, position)
    data = file.read_bytes()
    if alteration == "removed":
        file.unlink()
    else:
        file.write_bytes(data.replace(b"subject-", b"Subject-") if alteration == "edited" else data[:40])
    for use in (promotions.verify, promotions.entries, lambda: promote(promotions, 6)):
        with pytest.raises(LedgerError, match=file.name) as caught:
            use()
    if (alteration, position) == ("removed", 3):
        assert "cut off at the end" in str(caught.value)


def test_entries_that_were_exchanged_are_named(home: str, promotions: PromotionLedger) -> None:
    one, other = entry_file(home, 1), entry_file(home, 2)
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    with pytest.raises(LedgerError, match=one.name):
        promotions.verify()


def test_a_crash_between_an_entry_and_its_acknowledgement_leaves_a_good_ledger(
    home: str, promotions: PromotionLedger
) -> None:
    head_file(home, 3).unlink()
    assert promotions.verify().n_entries == 4
    promote(promotions, 5)
    assert head_file(home, 3).exists()
    assert promotions.verify().n_entries == 5


def test_lost_acknowledgements_are_reported(home: str, promotions: PromotionLedger) -> None:
    for position in (2, 3):
        head_file(home, position).unlink()
    with pytest.raises(LedgerError, match="head file"):
        promotions.verify()


def test_a_rewritten_entry_is_not_the_acknowledged_one(home: str, promotions: PromotionLedger) -> None:
    entry_file(home, 3).unlink()
    head_file(home, 3).rename(head_file(home, 8))  # out of the way, so that another entry can be written
    head_file(home, 8).unlink()
    kept = promote(promotions, 77)
    head_file(home, 3).write_bytes(b'{"hash":"' + b"0" * 64 + b'","index":3}')
    assert kept.index == 3
    with pytest.raises(LedgerError, match=entry_file(home, 3).name):
        promotions.verify()


@pytest.mark.parametrize("number", [1, 2])
def test_a_link_removed_from_before_the_end_is_noticed(home: str, number: int) -> None:
    ledger = TrialLedger(home)
    for seed, name in enumerate("abc"):
        record(ledger, name, seed)
    report = ledger.snapshot("edge")
    UPath(f"{home}/trials/edge/chain/{number:08d}.json").unlink()
    with pytest.raises(LedgerError, match=f"{number:08d}.json"):
        ledger.trials("edge")
    with pytest.raises(LedgerError):
        ledger.snapshot("edge", [report.anchor])


def test_a_removed_trial_and_a_shorter_chain_are_noticed(home: str) -> None:
    ledger = TrialLedger(home)
    for seed, name in enumerate("ab"):
        record(ledger, name, seed)
    report = ledger.snapshot("edge")
    UPath(f"{home}/trials/edge/b.json").unlink()
    with pytest.raises(LedgerError, match=r"b\.json"):
        ledger.snapshot("edge")
    UPath(f"{home}/trials/edge/chain/00000002.json").unlink()
    with pytest.raises(LedgerError, match="2 linked trials"):
        ledger.snapshot("edge", [report.anchor])


# ----------------------------------------------------------------------------------------------- other writers


WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
from quant_assets_tests.ledgers.test_ledgers_in_a_bucket import promote, record
from quant_assets.ledgers.promotions import PromotionLedger
from quant_assets.ledgers.trials import TrialLedger
home, first = sys.argv[2], int(sys.argv[3])
promotions, trials = PromotionLedger(home + "/promotions/ledger.jsonl"), TrialLedger(home)
sys.stdout.write("ready\\n"); sys.stdout.flush(); sys.stdin.readline()
for number in range(first, first + 3):
    promote(promotions, number, run_id=str(first))
    record(trials, f"trial-{number}", number)
    record(trials, f"shared-{number % 10}", number % 10)
"""


def test_two_processes_that_write_together_lose_nothing_and_count_nothing_twice(bucket: str) -> None:
    root = str(Path(__file__).parents[2])
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, root, f"{bucket}/home", first],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for first in ("100", "200")
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=120)
    assert [writer.returncode for writer in writers] == [0, 0]

    entries = PromotionLedger(f"{bucket}/home/promotions/ledger.jsonl").entries()
    assert len(entries) == 6
    for first in (100, 200):  # nothing is lost, and each writer's own order is kept
        mine = [int(e.model_version) for e in entries if e.run_id == str(first)]
        assert mine == list(range(first, first + 3))
    snapshot = TrialLedger(f"{bucket}/home").snapshot("edge")
    assert snapshot.n_trials == snapshot.chain_length == 6 + 3


def test_of_two_records_for_one_place_the_second_is_turned_away(
    home: str, promotions: PromotionLedger
) -> None:
    chain = Chain(PROMOTIONS, RecordFiles(entry_file(home, 0).parent, keeps_head=True))
    seen = chain.records()
    kept = promote(promotions, 5)
    late = replace(kept, subject="late")
    assert not chain.extend(seen, replace(late, hash=late.expected_hash()))
    assert promotions.entries()[-1] == kept
    # The very same record is this writer's own, whose answer was lost on the way: it is there, once.
    assert chain.extend(seen, kept)
    assert promotions.verify().n_entries == 5


def test_a_transaction_in_which_another_wrote_is_refused_and_writes_nothing(
    home: str, promotions: PromotionLedger
) -> None:
    other = PromotionLedger(f"{home}/promotions/ledger.jsonl")
    with promotions.locked():
        assert len(promotions.entries()) == 4
        promote(other, 5)
        with pytest.raises(LedgerError, match="no other writer"):
            promote(promotions, 6)
        with pytest.raises(LedgerError, match="no other writer"):
            promotions.entries()
    assert [e.model_version for e in other.entries()] == ["1", "2", "3", "4", "5"]
    with promotions.locked(), promotions.locked():
        promotions.entries()
        promote(promotions, 6)
        assert len(promotions.entries()) == 6
    promote(other, 7)
    assert promotions.verify().n_entries == 7


def test_a_store_that_lets_a_second_writer_win_is_refused_before_a_record_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    take = MemoryFileSystem.pipe_file
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", lambda fs, path, value, mode="": take(fs, path, value))
    ledger = PromotionLedger(f"memory://{tmp_path.name}/losing/ledger.jsonl")
    with pytest.raises(StorageError, match="If-None-Match"):
        promote(ledger, 1)
    assert ledger.entries() == ()


class UnprovenStore(MemoryFileSystem):
    """A kind of store that nobody has tried to write to twice."""

    protocol = "unproven"


@pytest.mark.filterwarnings("ignore:UPath 'unproven'")
def test_a_kind_of_store_of_which_nothing_is_known_keeps_no_ledger() -> None:
    fsspec.register_implementation("unproven", UnprovenStore, clobber=True)
    with pytest.raises(StorageError, match=r"unproven://.*s3://"):
        promote(PromotionLedger("unproven://x/ledger.jsonl"), 1)


def test_a_bucket_that_is_missing_is_no_empty_ledger(bucket: str) -> None:
    trials, promotions = TrialLedger(f"{bucket}-no/home"), PromotionLedger(f"{bucket}-no/home/ledger.jsonl")
    for use in (
        lambda: trials.trials("edge"),
        lambda: trials.snapshot("edge"),
        lambda: trials.anchor("edge"),
        lambda: record(trials, "a", 1),
        promotions.entries,
        promotions.verify,
        lambda: promote(promotions, 1),
    ):
        with pytest.raises(StorageError, match=r"no such bucket.*create it"):
            use()
