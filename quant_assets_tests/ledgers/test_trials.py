"""The trial ledger: what it keeps, what it notices, and what crashes and crowds do to it."""

import json
import multiprocessing
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from quant_assets.common.errors import LedgerError, ValidationError
from quant_assets.common.hashing import canonical_json
from quant_assets.ledgers.trials import Trial, TrialLedger, trial_of

DAYS = np.arange("2020-01-01", "2020-09-01", dtype="datetime64[D]")
STRATEGY = "us_tech_daily"


def stream(seed: int, n: int = len(DAYS)) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0.0005, 0.01, n)


def record(ledger: TrialLedger, name: str, seed: int, run_id: str = "run-1") -> Trial:
    returns = stream(seed)
    trial = trial_of(STRATEGY, name, returns, DAYS, run_id=run_id, recorded_at="2026-01-01T00:00:00+00:00")
    return ledger.append(trial, returns, DAYS)


@pytest.fixture
def ledger(tmp_path: Path) -> TrialLedger:
    return TrialLedger(tmp_path)


def trial_file(ledger: TrialLedger, name: str) -> Path:
    return ledger.root / "trials" / STRATEGY / f"{name}.json"


def link_file(ledger: TrialLedger, number: int) -> Path:
    return ledger.root / "trials" / STRATEGY / "chain" / f"{number:08d}.json"


# --------------------------------------------------------------------------------------------- what it keeps


def test_trials_come_back_in_order_of_their_fingerprints(ledger: TrialLedger) -> None:
    recorded = {name: record(ledger, name, seed) for seed, name in enumerate(("c", "a", "b"))}
    assert ledger.trials(STRATEGY) == (recorded["a"], recorded["b"], recorded["c"])
    assert TrialLedger(str(ledger.root)).trials(STRATEGY) == ledger.trials(STRATEGY)


def test_a_strategy_without_trials_has_none(ledger: TrialLedger) -> None:
    assert ledger.trials("unknown") == ()
    snapshot = ledger.snapshot("unknown")
    assert (snapshot.n_trials, snapshot.trial_variance, snapshot.chain_length) == (0, 0.0, 0)
    assert ledger.returns_matrix("unknown").shape == (0, 0)


def test_a_trial_knows_its_sharpe_ratio_and_its_length(ledger: TrialLedger) -> None:
    trial = record(ledger, "a", 1)
    returns = stream(1)
    assert trial.sharpe_per_period == pytest.approx(returns.mean() / returns.std(ddof=1), rel=1e-12)
    assert trial.n_obs == 244


def test_the_same_configuration_again_is_no_second_trial(ledger: TrialLedger) -> None:
    first = record(ledger, "a", 1, run_id="run-1")
    again = record(ledger, "a", 1, run_id="run-2")
    assert again == first
    assert again.run_id == "run-1"
    assert ledger.snapshot(STRATEGY).n_trials == 1
    assert len(list((ledger.root / "trials" / STRATEGY / "chain").iterdir())) == 1


def test_the_same_configuration_with_other_returns_is_refused(ledger: TrialLedger) -> None:
    kept = record(ledger, "a", 1)
    with pytest.raises(LedgerError, match="same fingerprint"):
        record(ledger, "a", 2)
    assert ledger.trials(STRATEGY) == (kept,)


def test_a_trial_cannot_claim_returns_that_it_does_not_have(ledger: TrialLedger) -> None:
    returns = stream(1)
    honest = trial_of(STRATEGY, "a", returns, DAYS, run_id="r", recorded_at="t")
    lucky = Trial(**(honest.__dict__ | {"sharpe_per_period": 0.0}))  # hides its spread
    with pytest.raises(LedgerError, match="trial_of"):
        ledger.append(lucky, returns, DAYS)
    with pytest.raises(LedgerError, match="trial_of"):
        ledger.append(honest, stream(2), DAYS)
    with pytest.raises(LedgerError, match="trial_of"):
        ledger.append(honest, returns, DAYS + 1)
    assert ledger.trials(STRATEGY) == ()


@pytest.mark.parametrize(
    ("returns", "days"),
    [
        ([0.1, np.nan], DAYS[:2]),
        ([0.1, np.inf], DAYS[:2]),
        ([0.1], DAYS[:1]),
        ([0.1, 0.2], DAYS[:3]),
        ([0.1, 0.2], DAYS[[1, 0]]),
        ([0.1, 0.2], DAYS[[1, 1]]),
    ],
    ids=["NaN", "infinity", "one", "lengths", "backwards", "twice"],
)
def test_returns_that_are_no_track_record_are_refused(
    returns: list[float], days: NDArray[np.datetime64]
) -> None:
    with pytest.raises(ValidationError):
        trial_of(STRATEGY, "a", returns, days, run_id="r", recorded_at="t")


def test_a_configuration_that_never_trades_counts_with_a_sharpe_ratio_of_zero(ledger: TrialLedger) -> None:
    idle = np.zeros(len(DAYS))
    trial = ledger.append(trial_of(STRATEGY, "idle", idle, DAYS, run_id="r", recorded_at="t"), idle, DAYS)
    assert trial.sharpe_per_period == 0.0
    record(ledger, "a", 1)
    assert ledger.snapshot(STRATEGY).n_trials == 2


@pytest.mark.parametrize("name", ["../escape", "a/b", "", ".hidden", "a" * 129, "x\n"])
def test_names_cannot_leave_the_ledger(ledger: TrialLedger, name: str) -> None:
    with pytest.raises(LedgerError):
        record(ledger, name, 1)
    assert not ledger.root.exists() or not any(ledger.root.rglob("*.json"))


# ------------------------------------------------------------------------------------------ what it adds up


def test_a_snapshot_counts_trials_and_their_spread(ledger: TrialLedger) -> None:
    sharpes = [record(ledger, f"t{seed}", seed).sharpe_per_period for seed in range(6)]
    snapshot = ledger.snapshot(STRATEGY)
    assert snapshot.n_trials == 6
    assert snapshot.sharpes == tuple(sharpes)
    assert snapshot.trial_variance == pytest.approx(np.var(sharpes, ddof=1))
    assert 1.0 <= snapshot.effective_number_of_trials <= 6.0


def test_one_trial_has_no_spread(ledger: TrialLedger) -> None:
    record(ledger, "a", 1)
    snapshot = ledger.snapshot(STRATEGY)
    assert (snapshot.n_trials, snapshot.trial_variance, snapshot.effective_number_of_trials) == (1, 0.0, 1.0)


def test_copies_of_one_trial_are_many_trials_but_hardly_more_than_one_effective_trial(
    ledger: TrialLedger,
) -> None:
    for name in ("a", "b", "c", "d"):
        record(ledger, name, 1)
    snapshot = ledger.snapshot(STRATEGY)
    assert snapshot.n_trials == 4
    assert snapshot.effective_number_of_trials < 1.5


def test_the_number_of_trials_of_a_snapshot_cannot_be_typed(ledger: TrialLedger) -> None:
    record(ledger, "a", 1)
    with pytest.raises(AttributeError):
        ledger.snapshot(STRATEGY).n_trials = 1  # type: ignore[misc]


def test_the_digest_changes_with_each_trial_and_with_their_order_and_not_with_who_recorded_them(
    tmp_path: Path,
) -> None:
    one, other, third = (TrialLedger(tmp_path / name) for name in "123")
    for name, seed in (("a", 1), ("b", 2)):
        record(one, name, seed, run_id="x")
        record(third, name, seed, run_id="z")
    for name, seed in (("b", 2), ("a", 1)):
        record(other, name, seed, run_id="y")
    before = one.snapshot(STRATEGY).digest
    assert third.snapshot(STRATEGY).digest == before
    assert other.snapshot(STRATEGY).digest != before  # what is judged depends on who came first
    assert other.snapshot(STRATEGY).sharpes == one.snapshot(STRATEGY).sharpes
    record(one, "c", 3)
    assert one.snapshot(STRATEGY).digest != before


def test_trials_arrived_in_the_order_of_their_links_whatever_their_files_say(ledger: TrialLedger) -> None:
    for seed, name in enumerate(("c", "a", "d", "b")):
        record(ledger, name, seed)
    before = ledger.snapshot(STRATEGY)
    assert [trial.fingerprint for trial in ledger.arrived(STRATEGY)] == ["c", "a", "d", "b"]
    assert before.arrival == (1, 3, 0, 2)  # of a, b, c and d
    # The attack: other times of recording, and files that look older or newer.
    for number, name in enumerate("abcd"):
        file = trial_file(ledger, name)
        told = json.loads(file.read_text())
        file.write_bytes(canonical_json({**told, "recorded_at": f"2020-01-0{number + 1}T00:00:00+00:00"}))
        os.utime(file, (number, number))
    assert ledger.snapshot(STRATEGY) == before
    # Links that changed places, and a trial that was left out, are noticed.
    first, second = link_file(ledger, 1), link_file(ledger, 2)
    held = first.read_bytes(), second.read_bytes()
    first.write_bytes(held[1]), second.write_bytes(held[0])
    with pytest.raises(LedgerError):
        ledger.snapshot(STRATEGY)
    first.write_bytes(held[0]), second.write_bytes(held[1])
    assert ledger.snapshot(STRATEGY) == before
    trial_file(ledger, "a").unlink()
    with pytest.raises(LedgerError):
        ledger.snapshot(STRATEGY)


def test_a_trial_without_a_link_arrived_last(ledger: TrialLedger) -> None:
    for seed, name in enumerate(("b", "c", "a")):
        record(ledger, name, seed)
    link_file(ledger, 3).unlink()
    shutil.rmtree(ledger.root / "anchors")  # as its writer was killed before its link
    assert ledger.snapshot(STRATEGY).arrival == (2, 0, 1)
    record(ledger, "A", 9)
    assert sorted(ledger.snapshot(STRATEGY).arrival) == [0, 1, 2, 3]


def test_an_idea_that_goes_on_with_its_track_arrived_when_it_was_first_looked_at(ledger: TrialLedger) -> None:
    first = record(ledger, "first", 1)
    record(ledger, "second", 2)
    for name, seed, before in (("again", 3, first.fingerprint), ("and again", 4, "again")):
        returns = stream(seed)
        fingerprint = name.replace(" ", "-")
        trial = trial_of(STRATEGY, fingerprint, returns, DAYS, run_id="r", recorded_at="2026-02-01")
        ledger.append(replace(trial, idea="i" * 64, continues=before.replace(" ", "-")), returns, DAYS)
    assert [trial.fingerprint for trial in ledger.arrived(STRATEGY)] == ["and-again", "second"]
    assert ledger.snapshot(STRATEGY).arrival == (0, 1)


def test_a_ledger_of_before_books_is_taken_over_in_its_own_order(ledger: TrialLedger) -> None:
    for seed, name in enumerate(("c", "a", "b")):
        record(ledger, name, seed)
    assert ledger.adopt("market.forward_return", STRATEGY) == 3
    assert [t.fingerprint for t in ledger.arrived("market.forward_return")] == ["c", "a", "b"]


def test_the_returns_matrix_holds_the_sessions_that_any_trial_has(ledger: TrialLedger) -> None:
    kept_of = {"a": slice(0, 200), "b": slice(50, 244), "c": slice(0, 244, 2)}
    for name, kept in kept_of.items():
        returns = stream(ord(name))[kept]
        trial = trial_of(STRATEGY, name, returns, DAYS[kept], run_id="r", recorded_at="t")
        ledger.append(trial, returns, DAYS[kept])
    matrix = ledger.returns_matrix(STRATEGY)
    assert matrix.shape == (244, 3)
    for column, (name, kept) in enumerate(kept_of.items()):
        expected = np.full(244, np.nan)
        expected[kept] = stream(ord(name))[kept]
        assert np.array_equal(matrix[:, column], expected, equal_nan=True)


def test_a_trial_of_one_week_takes_nothing_away_from_what_the_others_are_compared_by(
    ledger: TrialLedger,
) -> None:
    """Sessions that all trials share were the rows: one short look left too few of them to judge any."""
    for seed, name in enumerate("ab"):
        record(ledger, name, seed)
    before = ledger.returns_matrix(STRATEGY)
    week = stream(7)[:5]
    ledger.append(trial_of(STRATEGY, "c", week, DAYS[:5], run_id="r", recorded_at="t"), week, DAYS[:5])
    assert ledger.returns_matrix(STRATEGY)[:, :2].tolist() == before.tolist()


def test_trials_without_a_common_session_each_count(ledger: TrialLedger) -> None:
    for name, kept in (("a", slice(0, 100)), ("b", slice(100, 200))):
        returns = stream(1)[kept]
        ledger.append(
            trial_of(STRATEGY, name, returns, DAYS[kept], run_id="r", recorded_at="t"), returns, DAYS[kept]
        )
    assert np.isnan(ledger.returns_matrix(STRATEGY)).sum() == 200
    assert ledger.snapshot(STRATEGY).effective_number_of_trials == pytest.approx(2.0)


def test_books_do_not_share_trials(ledger: TrialLedger) -> None:
    record(ledger, "a", 1)
    returns = stream(1)
    ledger.append(trial_of("pure_noise", "a", returns, DAYS, run_id="r", recorded_at="t"), returns, DAYS)
    assert ledger.snapshot(STRATEGY).n_trials == ledger.snapshot("pure_noise").n_trials == 1


# ------------------------------------------------------------------------------------------ what it notices


@pytest.mark.parametrize("length", [0, 1, 40, -1])
def test_a_trial_cut_short_is_named(ledger: TrialLedger, length: int) -> None:
    record(ledger, "a", 1)
    path = trial_file(ledger, "a")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(LedgerError, match=str(path)):
        ledger.trials(STRATEGY)


@pytest.mark.parametrize("field", ["sharpe_per_period", "n_obs", "returns_sha256", "sessions_sha256"])
def test_an_altered_trial_is_named(ledger: TrialLedger, field: str) -> None:
    record(ledger, "a", 1)
    path = trial_file(ledger, "a")
    data = json.loads(path.read_text())
    data[field] = 7 if field == "n_obs" else 0.0 if field == "sharpe_per_period" else "0" * 64
    path.write_text(json.dumps(data))
    with pytest.raises(LedgerError, match=str(path)):
        ledger.trials(STRATEGY)


@pytest.mark.parametrize("value", ["\ud800", "x" * 5000])
def test_a_trial_with_half_a_character_or_an_endless_name_gets_one_short_error(
    ledger: TrialLedger, value: str
) -> None:
    record(ledger, "a", 1)
    path = trial_file(ledger, "a")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fingerprint": value}))
    with pytest.raises(LedgerError, match=str(path)) as refusal:
        ledger.trials(STRATEGY)
    assert len(str(refusal.value)) < 1000


def test_exchanged_trials_are_noticed(ledger: TrialLedger) -> None:
    record(ledger, "a", 1)
    record(ledger, "b", 2)
    trial_file(ledger, "a").write_bytes(trial_file(ledger, "b").read_bytes())
    with pytest.raises(LedgerError, match="of that name"):
        ledger.trials(STRATEGY)


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_a_removed_trial_is_noticed_by_every_reader(ledger: TrialLedger, name: str) -> None:
    for seed, trial in enumerate("abc"):
        record(ledger, trial, seed)
    path = trial_file(ledger, name)
    path.unlink()
    for read in (ledger.trials, ledger.snapshot, ledger.returns_matrix):
        with pytest.raises(LedgerError, match=str(path)):
            read(STRATEGY)


def test_a_removed_trial_comes_back_by_being_evaluated_again(ledger: TrialLedger) -> None:
    record(ledger, "a", 1)
    record(ledger, "b", 2)
    before = ledger.snapshot(STRATEGY)
    trial_file(ledger, "a").unlink()
    record(ledger, "a", 1, run_id="a later run")
    assert ledger.snapshot(STRATEGY) == before


@pytest.mark.parametrize("number", [1, 2])
def test_a_link_removed_from_before_the_end_is_noticed(ledger: TrialLedger, number: int) -> None:
    for seed, trial in enumerate("abc"):
        record(ledger, trial, seed)
    link_file(ledger, number).unlink()
    with pytest.raises(LedgerError, match=str(link_file(ledger, number))):
        ledger.trials(STRATEGY)
    with pytest.raises(LedgerError):
        record(ledger, "d", 4)


def test_an_altered_link_is_noticed(ledger: TrialLedger) -> None:
    for seed, trial in enumerate("abc"):
        record(ledger, trial, seed)
    data = json.loads(link_file(ledger, 1).read_text())
    link_file(ledger, 1).write_text(json.dumps(data | {"fingerprint": "b"}))
    with pytest.raises(LedgerError):
        ledger.trials(STRATEGY)


def test_links_that_were_renumbered_to_close_a_gap_are_noticed(ledger: TrialLedger) -> None:
    for seed, trial in enumerate("abc"):
        record(ledger, trial, seed)
    trial_file(ledger, "b").unlink()
    data = json.loads(link_file(ledger, 3).read_text())
    link_file(ledger, 3).unlink()
    link_file(ledger, 2).write_text(json.dumps(data | {"number": 2}))
    with pytest.raises(LedgerError, match="continuing"):
        ledger.trials(STRATEGY)


def test_the_newest_trial_and_its_link_removed_together_are_noticed_by_an_anchor(ledger: TrialLedger) -> None:
    for seed, trial in enumerate("ab"):
        record(ledger, trial, seed)
    report = ledger.snapshot(STRATEGY)
    trial_file(ledger, "b").unlink()
    link_file(ledger, 2).unlink()
    for look in (lambda: ledger.snapshot(STRATEGY), lambda: record(ledger, "c", 3)):
        with pytest.raises(LedgerError, match="2 linked trials"):
            look()
    shutil.rmtree(ledger.root / "anchors")
    assert ledger.snapshot(STRATEGY).n_trials == 1  # the folder alone cannot tell
    with pytest.raises(LedgerError, match="2 linked trials"):
        ledger.snapshot(STRATEGY, [report.anchor])


def test_a_ledger_that_was_begun_anew_is_no_continuation(ledger: TrialLedger, tmp_path: Path) -> None:
    for seed, trial in enumerate("ab"):
        record(ledger, trial, seed)
    report = ledger.snapshot(STRATEGY)
    other = TrialLedger(tmp_path / "other")
    for seed, trial in enumerate("xyz"):
        record(other, trial, seed)
    with pytest.raises(LedgerError):
        other.snapshot(STRATEGY, [report.anchor])
    record(ledger, "c", 3)
    assert ledger.snapshot(STRATEGY, [report.anchor]).n_trials == 3


def test_returns_whose_bytes_changed_are_named(ledger: TrialLedger) -> None:
    trial = record(ledger, "a", 1)
    path = ledger.root / "objects" / trial.returns_sha256[:2] / trial.returns_sha256
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(LedgerError, match=trial.returns_sha256):
        ledger.returns_matrix(STRATEGY)


def test_a_trial_without_a_link_counts_and_the_next_writer_links_it(ledger: TrialLedger) -> None:
    record(ledger, "a", 1)
    link_file(ledger, 1).unlink()  # as if its writer had been killed between the two
    shutil.rmtree(ledger.root / "anchors")
    assert ledger.snapshot(STRATEGY).n_trials == 1
    record(ledger, "b", 2)
    assert ledger.snapshot(STRATEGY).chain_length == 2
    trial_file(ledger, "a").unlink()
    with pytest.raises(LedgerError):
        ledger.trials(STRATEGY)


@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=10))
@settings(max_examples=15, deadline=None)
def test_n_is_the_number_of_distinct_configurations_whatever_the_order(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    ledger = TrialLedger(tmp_path_factory.mktemp("ledger"))
    for name in names:
        record(ledger, name, ord(name))
    snapshot = ledger.snapshot(STRATEGY)
    assert snapshot.n_trials == snapshot.chain_length == len(set(names))


# --------------------------------------------------------------------------------------- crowds and crashes


def _write_many(root: str, seeds: list[int]) -> None:
    ledger = TrialLedger(root)
    for seed in seeds:
        record(ledger, f"trial-{seed:04d}", seed, run_id=str(os.getpid()))


def test_eight_concurrent_writers_lose_nothing_and_count_nothing_twice(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    # every trial is written by two of the eight, in another order
    jobs = [[(writer * 5 + i * 7) % 20 for i in range(5)] for writer in range(8)]
    assert sorted({seed for job in jobs for seed in job}) == list(range(20))
    writers = [context.Process(target=_write_many, args=(str(tmp_path), job)) for job in jobs]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(timeout=60)
    assert [writer.exitcode for writer in writers] == [0] * 8
    snapshot = TrialLedger(tmp_path).snapshot(STRATEGY)
    assert snapshot.n_trials == snapshot.chain_length == 20
    assert not list(tmp_path.rglob(".incoming-*"))


def _write_and_die(root: str, seeds: list[int], call: str, number: int, progress: int) -> None:
    """Append trials; after two whole ones, be killed at this call of an operating system function."""
    real, written, calls = getattr(os, call), [], iter(range(1, 1000))

    def fatal(*arguments: object, **options: object) -> object:
        if len(written) >= 2 and next(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)

    setattr(os, call, fatal)
    ledger = TrialLedger(root)
    for seed in seeds:
        record(ledger, f"trial-{seed:04d}", seed, run_id=str(os.getpid()))
        written.append(seed)
        os.write(progress, f"trial-{seed:04d}\n".encode())


@pytest.mark.parametrize(
    ("call", "number"),
    [("fsync", 1), ("fsync", 2), ("link", 1), ("fsync", 3), ("fsync", 4), ("link", 2)],
    ids=[
        "while its returns are stored",
        "while its row is written",
        "before its row has a name",
        "after its row has a name",
        "while its link is written",
        "before its link has a name",
    ],
)
def test_one_of_eight_concurrent_writers_killed_in_mid_write_loses_no_completed_trial(
    tmp_path: Path, call: str, number: int
) -> None:
    context = multiprocessing.get_context("fork")
    reader, progress = os.pipe()
    jobs = [list(range(writer * 10, writer * 10 + 5)) for writer in range(8)]
    writers = [context.Process(target=_write_many, args=(str(tmp_path), job)) for job in jobs[1:]]
    writers.append(
        context.Process(target=_write_and_die, args=(str(tmp_path), jobs[0], call, number, progress))
    )
    for writer in writers:
        writer.start()
    os.close(progress)
    with os.fdopen(reader) as lines:
        completed = {line.strip() for line in lines}
    for writer in writers:
        writer.join(timeout=60)
    assert [writer.exitcode for writer in writers] == [0] * 7 + [-signal.SIGKILL]
    ledger = TrialLedger(tmp_path)
    found = {trial.fingerprint for trial in ledger.trials(STRATEGY)}
    others = {f"trial-{seed:04d}" for job in jobs[1:] for seed in job}
    assert completed == {"trial-0000", "trial-0001"}
    assert others | completed <= found
    assert len(found) <= len(others | completed) + 1  # the one under way is there as a whole, or not at all
    assert ledger.returns_matrix(STRATEGY).shape == (244, len(found))
    record(ledger, "after", 99)
    assert ledger.snapshot(STRATEGY).chain_length == ledger.snapshot(STRATEGY).n_trials == len(found) + 1


def _write_until_killed(root: str, first: int, progress: int) -> None:
    ledger = TrialLedger(root)
    for seed in range(first, first + 10_000):
        record(ledger, f"trial-{seed:06d}", seed)
        os.write(progress, f"{seed:06d}\n".encode())


def test_writers_killed_in_mid_write_lose_no_completed_trial(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    rounds = 15
    completed: set[str] = set()
    for number in range(rounds):
        reader, progress = os.pipe()
        process = context.Process(target=_write_until_killed, args=(str(tmp_path), number * 10_000, progress))
        process.start()
        os.close(progress)
        with os.fdopen(reader) as lines:
            completed.add(f"trial-{lines.readline().strip()}")  # it is at work
            time.sleep(0.0007 * number)  # one append takes a few milliseconds: hit it at several places
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            process.join(timeout=60)
            assert process.exitcode == -signal.SIGKILL
            completed |= {f"trial-{line.strip()}" for line in lines}
        found = {trial.fingerprint for trial in TrialLedger(tmp_path).trials(STRATEGY)}
        assert completed <= found
        # besides, at most the one that each killed writer had under way
        assert len(found) <= len(completed) + number + 1
    ledger = TrialLedger(tmp_path)
    record(ledger, "after", 99)
    snapshot = ledger.snapshot(STRATEGY)
    assert snapshot.chain_length == snapshot.n_trials >= rounds + 1
    assert len(ledger.returns_matrix(STRATEGY)) == 244
