"""The promotion ledger: every alteration is found and named, and a crash loses nothing."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quant_assets.common.errors import LedgerError
from quant_assets.common.hashing import canonical_json, json_digest
from quant_assets.ledgers.promotions import GENESIS, LedgerEntry, PromotionLedger

NOW = datetime(2026, 3, 2, 21, 0, tzinfo=UTC)


def add(ledger: PromotionLedger, number: int = 1, action: Any = "promoted", **changes: Any) -> LedgerEntry:
    fields: dict[str, Any] = {
        "strategy": "planted_edge",
        "subject": f"subject-{number}",
        "model_version": str(number),
        "reasons": ("all gates open",),
        "evidence": {"validation": f"{number}" * 8},
        "actor": "asset:promotion",
        "at": NOW,
        "run_id": "run-1",
    }
    return ledger.append(action, **(fields | changes))


@pytest.fixture
def ledger(tmp_path: Path) -> PromotionLedger:
    filled = PromotionLedger(tmp_path / "ledger.jsonl")
    for number in range(1, 6):
        add(filled, number)
    return filled


def lines_of(ledger: PromotionLedger) -> list[bytes]:
    return ledger.path.read_bytes().splitlines(keepends=True)


def test_an_empty_ledger_verifies(tmp_path: Path) -> None:
    state = PromotionLedger(tmp_path / "ledger.jsonl").verify()
    assert (state.n_entries, state.head, state.torn_bytes) == (0, GENESIS, 0)


def test_entries_chain_by_hash_and_read_back_as_written(ledger: PromotionLedger) -> None:
    entries = ledger.entries()
    assert [e.index for e in entries] == [0, 1, 2, 3, 4]
    assert [e.previous for e in entries] == [GENESIS, *(e.hash for e in entries[:-1])]
    assert entries[2].subject == "subject-3"
    assert entries[2].at == "2026-03-02T21:00:00+00:00"
    assert ledger.verify().head == entries[-1].hash
    assert PromotionLedger(ledger.path).entries("planted_edge") == entries
    assert ledger.entries("pure_noise") == ()


@pytest.mark.parametrize(
    ("alter", "named"),
    [
        (lambda ls: [*ls[:2], ls[2].replace(b"subject-3", b"subject-9"), *ls[3:]], "entry 2"),
        (lambda ls: [*ls[:2], ls[2].replace(b'"actor":', b'"actor": '), *ls[3:]], "entry 2"),
        (lambda ls: [*ls[:2], ls[2].replace(b'"run-1"', b"NaN"), *ls[3:]], "entry 2"),
        (lambda ls: ls[:1] + ls[2:], "entry 1"),
        (lambda ls: ls[1:], "entry 0"),
        (lambda ls: [ls[0], ls[2], ls[1], *ls[3:]], "entry 1"),
        (lambda ls: [*ls[:2], b"{}\n", *ls[2:]], "entry 2"),
        (lambda ls: [*ls[:2], b"\n", *ls[2:]], "entry 2"),
        (lambda ls: [*ls, ls[-1]], "entry 5"),
        (lambda ls: ls[:-1], "entry 4"),
        (lambda ls: [*ls[:-1], ls[-1][:40]], "entry 4"),
        (lambda ls: ls[:2], "entry 2"),
        (lambda _: [], "entry 0"),
    ],
)
def test_an_altered_ledger_is_refused_at_its_first_broken_entry(
    ledger: PromotionLedger, alter: Any, named: str
) -> None:
    ledger.path.write_bytes(b"".join(alter(lines_of(ledger))))
    for use in (ledger.verify, ledger.entries, lambda: add(ledger, 6)):
        with pytest.raises(LedgerError, match=named):
            use()


def test_an_entry_that_was_edited_and_hashed_again_breaks_the_chain_after_it(ledger: PromotionLedger) -> None:
    lines = lines_of(ledger)
    forged = json.loads(lines[2]) | {"subject": "forged"}
    entry = LedgerEntry(**(forged | {"reasons": tuple(forged["reasons"])}))
    forged["hash"] = entry.expected_hash()
    lines[2] = json.dumps(forged, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    ledger.path.write_bytes(b"".join(lines))
    with pytest.raises(LedgerError, match="entry 3"):
        ledger.verify()


def test_an_entry_says_by_what_it_was_decided_and_that_is_under_its_hash(ledger: PromotionLedger) -> None:
    basis = {"limits": {"validation": {"sharpe_min": 1.2}}, "settings": {"costs": {"half_spread_bps": 1.0}}}
    entry = add(ledger, 6, basis=basis)
    assert ledger.entries()[-1] == entry
    assert entry.basis == basis
    lines = lines_of(ledger)
    for edited in (
        lines[-1].replace(b'"sharpe_min":1.2', b'"sharpe_min":0.2'),
        lines[-1].replace(b'"basis":{', b'"basis":{"more":1,'),
        lines[-1].replace(b',"basis":{', b',"other":{'),
    ):
        assert edited != lines[-1]
        ledger.path.write_bytes(b"".join([*lines[:-1], edited]))
        with pytest.raises(LedgerError, match="entry 5"):
            ledger.verify()


@pytest.mark.parametrize("basis", [b"{}", b"5", b"null", b"[1]"])
def test_an_entry_without_a_basis_has_one_form_only(ledger: PromotionLedger, basis: bytes) -> None:
    lines = lines_of(ledger)
    said = json.loads(lines[-1]) | {"basis": json.loads(basis)}
    said["hash"] = json_digest({k: v for k, v in said.items() if k != "hash"})
    ledger.path.write_bytes(b"".join([*lines[:-1], canonical_json(said) + b"\n"]))
    with pytest.raises(LedgerError, match="entry 4"):
        ledger.verify()


def test_a_refusal_under_another_basis_is_no_repetition(ledger: PromotionLedger) -> None:
    first = add(ledger, 6, action="refused", basis={"limits": {"sharpe_min": 1.2}})
    assert add(ledger, 6, action="refused", basis={"limits": {"sharpe_min": 1.2}}) == first
    assert add(ledger, 6, action="refused", basis={"limits": {"sharpe_min": 1.3}}).index == first.index + 1


@given(data=st.data())
@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
def test_no_single_changed_byte_of_an_acknowledged_entry_goes_unseen(
    ledger: PromotionLedger, data: st.DataObject
) -> None:
    original = ledger.path.read_bytes()
    position = data.draw(st.integers(0, len(original) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda b: b != original[position]))
    ledger.path.write_bytes(original[:position] + bytes([value]) + original[position + 1 :])
    try:
        with pytest.raises(LedgerError):
            ledger.verify()
    finally:
        ledger.path.write_bytes(original)


def test_a_deleted_ledger_with_its_head_file_left_is_not_an_empty_one(ledger: PromotionLedger) -> None:
    ledger.path.unlink()
    with pytest.raises(LedgerError, match="cut off at the end"):
        ledger.verify()


def test_a_lost_head_file_is_reported(ledger: PromotionLedger) -> None:
    ledger.path.with_name("ledger.jsonl.head").unlink()
    with pytest.raises(LedgerError, match="head file"):
        ledger.verify()


@pytest.mark.parametrize("kept", [1, 40, -1])
def test_a_line_that_a_crash_cut_short_is_moved_aside_whole_by_the_next_append(
    ledger: PromotionLedger, tmp_path: Path, kept: int
) -> None:
    before = ledger.entries()
    elsewhere = PromotionLedger(tmp_path / "twin" / "ledger.jsonl")
    for number in range(1, 7):
        add(elsewhere, number)
    torn = lines_of(elsewhere)[5][:kept]
    with ledger.path.open("ab") as handle:
        handle.write(torn)

    assert ledger.verify().torn_bytes == len(torn)
    assert ledger.entries() == before
    entry = add(ledger, 7)
    assert ledger.entries() == (*before, entry)
    assert ledger.verify().torn_bytes == 0
    (aside,) = tmp_path.glob("ledger.jsonl.torn-*")
    assert aside.read_bytes() == torn


def test_a_crash_between_the_entry_and_the_head_file_leaves_a_good_ledger(ledger: PromotionLedger) -> None:
    head = ledger.path.with_name("ledger.jsonl.head")
    stale = head.read_bytes()
    add(ledger, 6)
    head.write_bytes(stale)
    assert ledger.verify().n_entries == 6
    add(ledger, 7)
    assert ledger.verify().n_entries == 7


def test_an_identical_refusal_is_recorded_once(ledger: PromotionLedger) -> None:
    closed = {"action": "refused", "reasons": ("psr: fail",)}
    first = add(ledger, 9, **closed)
    add(ledger, 1, strategy="pure_noise")  # another strategy in between changes nothing
    assert add(ledger, 9, **closed, run_id="run-2", at=NOW.replace(hour=22)) == first
    assert ledger.verify().n_entries == 7
    assert add(ledger, 9, **(closed | {"reasons": ("dsr: fail",)})).index == 7
    assert add(ledger, 9, **closed).index == 8  # no longer the latest
    assert add(ledger, 9, **closed, evidence={"validation": "other"}).index == 9


def test_a_naive_time_is_refused(ledger: PromotionLedger) -> None:
    with pytest.raises(LedgerError, match="naive"):
        add(ledger, 6, at=NOW.replace(tzinfo=None))
    assert ledger.verify().n_entries == 5


def test_threads_that_append_together_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: add(PromotionLedger(path), n), range(40)))
    entries = PromotionLedger(path).entries()
    assert {e.model_version for e in entries} == {str(n) for n in range(40)}


WRITER = """
import sys
from datetime import UTC, datetime
from quant_assets.ledgers.promotions import PromotionLedger
ledger = PromotionLedger(sys.argv[1])
for n in range(10_000):
    entry = ledger.append("promoted", strategy="s", subject=str(n), model_version=str(n), reasons=("x" * 2000,),
        evidence={}, actor="a", at=datetime.now(UTC), run_id=sys.argv[2])
    sys.stdout.write(entry.hash + "\\n"); sys.stdout.flush()
"""


def test_writers_that_are_killed_leave_every_acknowledged_entry(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), name], stdout=subprocess.PIPE)
        for name in ("one", "two")
    ]
    acknowledged = []
    for writer in writers:
        assert writer.stdout is not None
        acknowledged += [writer.stdout.readline().strip().decode() for _ in range(3)]
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged += [line.decode() for line in writer.stdout.read().splitlines() if len(line) == 64]
        writer.wait()
    ledger = PromotionLedger(path)
    last = add(ledger, 1)
    hashes = [entry.hash for entry in ledger.entries()]
    assert set(acknowledged) <= set(hashes)
    assert hashes[-1] == last.hash
