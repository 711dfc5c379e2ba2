"""What counts as one trial: an idea, on bars that only grew; everything else that was looked at is another one."""

import shutil
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant_assets.common.errors import EvidenceError, LedgerError
from quant_assets.common.store import Table
from quant_assets.gates.evidence import Look, count_trial, enter_trial, panel_digest, panel_sketch
from quant_assets.ledgers.trials import TrialLedger, trial_of

BOOK = "market.forward_return"
LOOK = Look(BOOK, "first", "1" * 64, "run-1")
FIRST = date(2020, 1, 1)


def panel(n_sessions: int, n_symbols: int = 3, seed: int = 0) -> pl.DataFrame:
    """Bars of a random walk; a longer panel begins with the shorter one."""
    frames = []
    for symbol in range(n_symbols):
        draws = np.random.default_rng([seed, symbol]).standard_normal((n_sessions, 3))
        close = 50.0 * np.exp(np.cumsum(0.02 * draws[:, 0]))
        frames.append(
            pl.DataFrame(
                {
                    "symbol": [f"S{symbol}"] * n_sessions,
                    "session": [FIRST + timedelta(days=day) for day in range(n_sessions)],
                    "open": close * np.exp(0.003 * draws[:, 1]),
                    "high": close * 1.01,
                    "low": close * 0.99,
                    "close": close,
                    "volume": np.round(1e6 * np.exp(draws[:, 2])),
                }
            )
        )
    return pl.concat(frames)


def paths(n_sessions: int, seed: int = 0) -> Table:
    """Three paths of net returns."""
    rng = np.random.default_rng(seed)
    sessions = [FIRST + timedelta(days=day) for day in range(n_sessions)]
    frames = [
        pl.DataFrame(
            {
                "path": pl.Series([path] * n_sessions, dtype=pl.Int32),
                "session": sessions,
                "net_return": rng.normal(0.0003, 0.01, n_sessions),
                "gross_return": np.zeros(n_sessions),
                "turnover": np.zeros(n_sessions),
            }
        )
        for path in range(3)
    ]
    return Table(pl.concat(frames))


def n_trials(home: Path) -> int:
    return TrialLedger(home).snapshot(BOOK).n_trials


# ---------------------------------------------------------------------------------------- what is the same trial


def test_the_same_look_again_is_the_same_trial_under_whatever_name(tmp_path: Path) -> None:
    for look in (LOOK, LOOK, replace(LOOK, strategy="copied", run_id="run-2")):
        enter_trial(tmp_path, look, paths(200), panel(220))
    assert n_trials(tmp_path) == 1
    (trial,) = TrialLedger(tmp_path).trials(BOOK)
    assert (trial.strategy, trial.run_id) == ("first", "run-1")


def test_retraining_the_same_idea_on_newer_bars_goes_on_with_its_own_track(tmp_path: Path) -> None:
    for seed, n in enumerate((200, 205, 230)):
        enter_trial(tmp_path, LOOK, paths(n, seed), panel(n + 20))
    assert n_trials(tmp_path) == 1
    ledger = TrialLedger(tmp_path)
    (trial,) = ledger.trials(BOOK)
    assert trial.n_obs == 230
    assert len(ledger.records(BOOK)) == 3  # nothing that was seen is forgotten
    assert ledger.returns_matrix(BOOK).shape == (230, 1)


@pytest.mark.parametrize(
    ("what", "changed"),
    [
        ("another number in the configuration", (replace(LOOK, idea="2" * 64), paths(200), panel(220))),
        ("the same number without effect", (replace(LOOK, idea="3" * 64), paths(200), panel(220))),
        ("another outcome of the same", (LOOK, paths(200, 9), panel(220))),
        ("fewer sessions", (LOOK, paths(180, 9), panel(200))),
        ("fewer symbols", (LOOK, paths(205, 9), panel(225, n_symbols=2))),
        ("other history", (LOOK, paths(205, 9), panel(225, seed=1))),
        ("the same newest session again", (LOOK, paths(205, 9), panel(220))),
    ],
)
def test_everything_else_that_was_looked_at_is_another_trial(
    tmp_path: Path, what: str, changed: tuple[Look, Table, pl.DataFrame]
) -> None:
    enter_trial(tmp_path, LOOK, paths(200), panel(220))
    enter_trial(tmp_path, *changed)
    assert n_trials(tmp_path) == 2, what


@pytest.mark.parametrize("column", ["open", "high", "low", "close", "volume"])
def test_one_bar_of_history_that_was_edited_makes_another_trial(tmp_path: Path, column: str) -> None:
    enter_trial(tmp_path, LOOK, paths(200), panel(220))
    longer = panel(230)
    worst = (pl.col("symbol") == "S1") & (pl.col("session") == FIRST + timedelta(days=100))
    edited = longer.with_columns(pl.when(worst).then(pl.col(column) * 1.001).otherwise(pl.col(column)))
    enter_trial(tmp_path, LOOK, paths(210, 5), edited)
    assert n_trials(tmp_path) == 2


def with_an_end(bars: pl.DataFrame, final_return: float, known_on: date) -> pl.DataFrame:
    """S1 without its bars from day 150 on, and what its listing says of that, known at the close of a session."""
    day = pl.col("session").cast(pl.Datetime("us", "UTC"))
    left = bars.filter((pl.col("symbol") != "S1") | (pl.col("session") < FIRST + timedelta(days=150)))
    last = (pl.col("symbol") == "S1") & (pl.col("session") == FIRST + timedelta(days=149))
    known = pl.lit(datetime(known_on.year, known_on.month, known_on.day, tzinfo=UTC))
    return left.with_columns(
        known_at=day,
        listed_until=pl.when(last).then("session"),
        delisting_return=pl.when(last).then(final_return),
        end_known_at=pl.when(last).then(known),
    )


def test_another_return_of_a_name_that_ended_is_another_trial(tmp_path: Path) -> None:
    """The attack: a listing's delisting return is no bar and no configuration, so it was edited for nothing."""
    known = FIRST + timedelta(days=160)
    enter_trial(tmp_path, LOOK, paths(200), with_an_end(panel(220), -0.5, known))
    enter_trial(tmp_path, LOOK, paths(201, 1), with_an_end(panel(221), -0.5, known))
    assert n_trials(tmp_path) == 1
    enter_trial(tmp_path, LOOK, paths(202, 2), with_an_end(panel(222), 0.5, known))
    assert n_trials(tmp_path) == 2


def test_an_end_that_was_told_later_leaves_the_history_before_as_it_was() -> None:
    until, later = FIRST + timedelta(days=199), FIRST + timedelta(days=210)
    told = with_an_end(panel(220), -0.5, later)
    silent = told.drop("listed_until", "delisting_return", "end_known_at")
    assert panel_digest(told, until) == panel_digest(silent, until)
    assert panel_digest(told, later) != panel_digest(silent, later)


def test_two_tracks_that_go_on_with_one_count_as_two(tmp_path: Path) -> None:
    """The attack: look again and again at 'newer bars' of one more session each, keep the best."""
    enter_trial(tmp_path, LOOK, paths(200), panel(220))
    for seed in range(1, 5):
        enter_trial(tmp_path, LOOK, paths(201, seed), panel(221))
    assert n_trials(tmp_path) == 4


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(30, 34), st.integers(0, 1)),
        min_size=1,
        max_size=6,
    )
)
@settings(max_examples=15, deadline=None)
def test_n_never_falls_whatever_is_looked_at(
    tmp_path_factory: pytest.TempPathFactory, looks: list[tuple[int, int, int, int]]
) -> None:
    home, before = tmp_path_factory.mktemp("home"), 0
    for idea, outcome, n, market in looks:
        enter_trial(
            home,
            replace(LOOK, idea=str(idea) * 64),
            paths(n, outcome),
            panel(n + 5, n_symbols=1, seed=market),
        )
        now = n_trials(home)
        assert before <= now <= before + 1
        before = now


def test_a_look_without_bars_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="the bars that its paths were made from"):
        enter_trial(tmp_path, LOOK, paths(50), panel(60).clear())


# -------------------------------------------------------------------------------------- the digest of a panel


@given(st.floats(0.01, 0.99), st.integers(1, 219), st.floats(0.1, 10.0))
@settings(max_examples=25, deadline=None)
def test_a_later_dividend_or_split_leaves_history_what_it_was(factor: float, day: int, split: float) -> None:
    """Adjustment rescales all prices, and volumes, of before an action: of the whole panel up to a session."""
    bars, until = panel(220), FIRST + timedelta(days=day)
    rescaled = bars.with_columns(
        [pl.col(name) * factor for name in ("open", "high", "low", "close")] + [pl.col("volume") * split]
    )
    assert panel_digest(rescaled, until) == panel_digest(bars, until)


def test_the_digest_of_history_is_that_of_the_shorter_panel() -> None:
    shorter, longer = panel(150), panel(220)
    last = FIRST + timedelta(days=149)
    assert panel_digest(longer, last) == panel_digest(shorter, last)
    assert panel_digest(longer.sample(fraction=1.0, shuffle=True, seed=1), last) == panel_digest(
        shorter, last
    )
    assert panel_digest(longer, last + timedelta(days=1)) != panel_digest(shorter, last)


def test_a_session_without_volume_has_a_digest() -> None:
    bars = panel(30).with_columns(
        pl.when(pl.col("session") > FIRST + timedelta(days=10))
        .then(0.0)
        .otherwise(pl.col("volume"))
        .alias("volume")
    )
    until = FIRST + timedelta(days=29)
    assert panel_digest(bars, until) == panel_digest(bars.clone(), until)


# ------------------------------------------------------------------------- the same bars under another name


def disguised(bars: pl.DataFrame) -> pl.DataFrame:
    """The bars as another vendor, another unit and other symbols show them."""
    renamed = bars.with_columns(pl.format("{}-X", pl.col("symbol").str.reverse()).alias("symbol"))
    return renamed.with_columns(pl.col("open", "high", "low", "close") * 3.7).sample(
        fraction=1.0, shuffle=True, seed=2
    )


COPY = replace(LOOK, book="copied_market.forward_return", strategy="copied")


@pytest.mark.parametrize("what", ["a copy", "fewer symbols", "fewer sessions", "newer sessions"])
def test_a_copied_universe_counts_what_was_tried_on_the_first(tmp_path: Path, what: str) -> None:
    """The attack: fifty looks on one universe, the best of them again on a copy of it under a new name."""
    bars = panel(400, n_symbols=6)
    for seed in range(3):
        enter_trial(tmp_path, replace(LOOK, idea=str(seed) * 64), paths(380, seed), bars)
    seen = {
        "a copy": disguised(bars),
        "fewer symbols": disguised(bars.filter(pl.col("symbol") < "S3")),
        "fewer sessions": disguised(bars.filter(pl.col("session") > FIRST + timedelta(days=250))),
        "newer sessions": disguised(panel(500, n_symbols=6)),
    }[what]
    enter_trial(tmp_path, COPY, paths(380, 1), seen)
    ledger = TrialLedger(tmp_path)
    assert ledger.kin(COPY.book) == (BOOK,)
    snapshot = ledger.snapshot(COPY.book)
    assert (snapshot.n_trials, len(ledger.trials(COPY.book))) == (4, 1)
    assert ledger.returns_matrix(COPY.book).shape == (380, 4)
    assert ledger.snapshot(BOOK).digest == snapshot.digest  # and the first one counts the look at the copy


def test_trials_of_two_books_of_one_market_follow_each_other_by_when_they_were_recorded(
    tmp_path: Path,
) -> None:
    bars = panel(400, n_symbols=6)
    for seed, look in enumerate((LOOK, COPY, LOOK, COPY, LOOK)):
        enter_trial(tmp_path, replace(look, idea=str(seed) * 64), paths(380, seed), bars)
    ledger = TrialLedger(tmp_path)
    for book in (BOOK, COPY.book):
        assert [trial.idea[0] for trial in ledger.arrived(book)] == list("01234")
        snapshot = ledger.snapshot(book)
        assert [trial.idea[0] for trial in ledger.counted(book)] == [str(place) for place in snapshot.arrival]
    # A time that was changed moves trials of one book between those of the other, and changes no order within one.
    (last,) = [trial for trial in ledger.trials(BOOK) if trial.idea[0] == "4"]
    file = tmp_path / "trials" / BOOK / f"{last.fingerprint}.json"
    file.write_text(file.read_text().replace(last.recorded_at, "2000-01-01T00:00:00+00:00"))
    order = [trial.idea[0] for trial in ledger.arrived(BOOK)]
    assert [idea for idea in order if idea in "024"] == ["0", "2", "4"]
    assert [idea for idea in order if idea in "13"] == ["1", "3"]


def test_another_market_is_no_kin(tmp_path: Path) -> None:
    enter_trial(tmp_path, LOOK, paths(380), panel(400, n_symbols=6))
    enter_trial(tmp_path, COPY, paths(380), panel(400, n_symbols=6, seed=1))
    ledger = TrialLedger(tmp_path)
    assert ledger.kin(BOOK) == ledger.kin(COPY.book) == ()
    assert ledger.snapshot(COPY.book).n_trials == 1


def test_one_common_name_in_ten_makes_no_kin(tmp_path: Path) -> None:
    own, other = panel(400, n_symbols=10), panel(400, n_symbols=10, seed=1)
    shared = pl.concat([own.filter(pl.col("symbol") == "S0"), other.filter(pl.col("symbol") != "S0")])
    enter_trial(tmp_path, LOOK, paths(380), own)
    enter_trial(tmp_path, COPY, paths(380), shared)
    assert TrialLedger(tmp_path).kin(BOOK) == ()


def test_a_book_that_was_wiped_closes_those_that_might_be_its_copies(tmp_path: Path) -> None:
    enter_trial(tmp_path, LOOK, paths(380), panel(400))
    shutil.rmtree(tmp_path / "trials" / BOOK)
    enter_trial(tmp_path, COPY, paths(380), disguised(panel(400)))
    with pytest.raises(LedgerError, match=f"trial ledger of {BOOK}"):
        TrialLedger(tmp_path).snapshot(COPY.book)


def test_the_share_of_a_sketch_is_the_share_of_the_bars() -> None:
    bars = panel(2000, n_symbols=20)
    whole = panel_sketch(bars)
    assert len(whole) == pytest.approx(bars.height / 32, rel=0.15)
    for share in (0.25, 0.5, 0.75):
        part = panel_sketch(bars.filter(pl.col("symbol").str.tail(-1).cast(pl.Int64) < 20 * share))
        assert np.isin(part, whole).all()
        assert len(part) / len(whole) == pytest.approx(share, abs=0.05)


# ------------------------------------------------------------------------------------------ losses and anchors


def four(home: Path) -> TrialLedger:
    for seed in range(4):
        enter_trial(home, replace(LOOK, idea=str(seed) * 64), paths(200, seed), panel(220))
    return TrialLedger(home)


def test_a_wiped_ledger_counts_nothing_until_a_person_acknowledges_it_and_then_counts_what_is_lost(
    tmp_path: Path,
) -> None:
    ledger = four(tmp_path)
    before = ledger.snapshot(BOOK)
    shutil.rmtree(tmp_path / "trials")
    for look in (
        lambda: enter_trial(tmp_path, LOOK, paths(200), panel(220)),
        lambda: count_trial(tmp_path, LOOK, paths(200), panel(220), earlier=None, decided=()),
        lambda: ledger.snapshot(BOOK),
    ):
        with pytest.raises(LedgerError, match=r"expected 4 linked trials.*quant-assets trials acknowledge"):
            look()
    loss = ledger.anchors.acknowledge(
        BOOK, ledger.heads, (), by="A. Person", reason="disk lost, no backup", at="t"
    )
    assert (loss.lost_trials, loss.by) == (4, "A. Person")
    enter_trial(tmp_path, LOOK, paths(200), panel(220))
    after = ledger.snapshot(BOOK, [before.anchor])  # void: of before the acknowledgement
    assert (after.n_trials, after.lost_trials, after.losses) == (5, 4, 1)


def test_a_second_loss_adds_to_the_first(tmp_path: Path) -> None:
    ledger = four(tmp_path)
    for lost in (4, 1):
        shutil.rmtree(tmp_path / "trials")
        said = ledger.anchors.acknowledge(
            BOOK, ledger.heads, (), by="A. Person", reason="it burned down", at="t"
        )
        assert said.lost_trials == lost
        enter_trial(tmp_path, LOOK, paths(200), panel(220))
    assert n_trials(tmp_path) == 6


def test_acknowledgements_that_were_removed_are_missed(tmp_path: Path) -> None:
    ledger = four(tmp_path)
    shutil.rmtree(tmp_path / "trials")
    ledger.anchors.acknowledge(BOOK, ledger.heads, (), by="A. Person", reason="it burned down", at="t")
    enter_trial(tmp_path, LOOK, paths(200), panel(220))
    shutil.rmtree(tmp_path / "acknowledgements")
    with pytest.raises(LedgerError):
        ledger.snapshot(BOOK)
    ledger.anchors.acknowledge(BOOK, ledger.heads, (), by="A. Person", reason="it burned down again", at="t")
    assert ledger.snapshot(BOOK).n_trials == 2


@pytest.mark.parametrize(("by", "reason"), [("", "it burned down"), ("A. Person", "oops"), (" ", " " * 20)])
def test_an_acknowledgement_has_a_name_and_a_reason(tmp_path: Path, by: str, reason: str) -> None:
    ledger = four(tmp_path)
    shutil.rmtree(tmp_path / "trials")
    with pytest.raises(LedgerError, match="a person's name"):
        ledger.anchors.acknowledge(BOOK, ledger.heads, (), by=by, reason=reason, at="t")


def test_nothing_is_acknowledged_where_nothing_is_lost(tmp_path: Path) -> None:
    ledger = four(tmp_path)
    with pytest.raises(LedgerError, match="do nothing"):
        ledger.anchors.acknowledge(BOOK, ledger.heads, (), by="A. Person", reason="just in case", at="t")


def test_anchors_from_elsewhere_outlive_those_of_the_home(tmp_path: Path) -> None:
    ledger = four(tmp_path)
    known = ledger.snapshot(BOOK)
    shutil.rmtree(tmp_path / "trials")
    shutil.rmtree(tmp_path / "anchors")
    seen = {"book": BOOK, "losses": 0, "chain_length": known.chain_length, "chain_head": known.chain_head}
    with pytest.raises(LedgerError, match="4 linked trials"):
        count_trial(tmp_path, LOOK, paths(200), panel(220), earlier=seen, decided=())
    assert not (tmp_path / "trials").exists()  # refused before anything was counted anew


# --------------------------------------------------------------------------------------- ledgers of strategies


def test_a_strategys_own_ledger_of_before_is_taken_over_once_and_left_as_it_is(tmp_path: Path) -> None:
    ledger = TrialLedger(tmp_path)
    table = paths(200)
    days = table.frame.filter(pl.col("path") == 0)["session"].to_numpy()
    for seed in range(3):
        returns = np.random.default_rng(seed).normal(0.0, 0.01, 200)
        ledger.append(
            trial_of("first", f"old{seed}", returns, days, run_id="r", recorded_at="2026-01-01"),
            returns,
            days,
        )
    files = {p: p.read_bytes() for p in (tmp_path / "trials" / "first").rglob("*.json")}
    enter_trial(tmp_path, LOOK, table, panel(220))
    enter_trial(tmp_path, LOOK, table, panel(220))
    assert n_trials(tmp_path) == 4
    assert ledger.since(BOOK) == "2026-01-01"
    assert {p: p.read_bytes() for p in (tmp_path / "trials" / "first").rglob("*.json")} == files


def test_the_first_look_after_an_upgrade_is_not_counted_twice(tmp_path: Path) -> None:
    """The same returns were in the strategy's own ledger already, where ideas were not recorded."""
    enter_trial(tmp_path / "probe", LOOK, paths(200), panel(220))
    probe = TrialLedger(tmp_path / "probe")
    (trial,) = probe.trials(BOOK)
    returns = probe.returns_matrix(BOOK)[:, 0]
    days = np.arange(np.datetime64(FIRST), np.datetime64(FIRST) + 200)
    ledger = TrialLedger(tmp_path)
    ledger.append(trial_of("first", "old", returns, days, run_id="r", recorded_at="t"), returns, days)
    enter_trial(tmp_path, LOOK, paths(200), panel(220))
    assert [t.returns_sha256 for t in ledger.trials(BOOK)] == [trial.returns_sha256]


# ---------------------------------------------------------------------------------- membership and the same idea


def members_of(bars: pl.DataFrame, *names: str) -> pl.DataFrame:
    return bars.filter(pl.col("symbol").is_in(names)).select("symbol", "session")


def test_another_membership_under_newer_bars_is_a_trial_of_its_own(tmp_path: Path) -> None:
    """The same idea on the same bars and newer ones goes on; with another membership of the past it does not."""
    first, longer = panel(150), panel(151)
    every = first["symbol"].unique().sort().to_list()
    enter_trial(tmp_path, LOOK, paths(130), first, members_of(first, *every))
    enter_trial(tmp_path, LOOK, paths(131), longer, members_of(longer, *every))
    assert n_trials(tmp_path) == 1
    newest = panel(152)
    enter_trial(tmp_path, LOOK, paths(132), newest, members_of(newest, every[0]))
    assert n_trials(tmp_path) == 2


def test_members_of_later_sessions_change_no_digest_of_before() -> None:
    bars, until = panel(150), FIRST + timedelta(days=100)
    every = bars.select("symbol", "session")
    fewer = every.filter((pl.col("session") <= until) | (pl.col("symbol") == "S0"))
    assert fewer.height < every.height
    assert panel_digest(bars, until, fewer) == panel_digest(bars, until, every)
    assert panel_digest(bars, until, members_of(bars, "S0")) != panel_digest(bars, until, every)
    assert panel_digest(bars, until, every) != panel_digest(bars, until)
