"""The walk-forward track: what each window may know, and which rows have a score."""

import numpy as np
import polars as pl
import pytest

from quant_assets.common.errors import ModelError
from quant_assets.models.cross_prediction import FIRST_COMPARED, WINDOWS, walk_forward_predict
from quant_assets_tests.models.training_frames import FEATURES, SMALL_MODELS, training_frame

N_SESSIONS, N_SYMBOLS, EMBARGO = 120, 6, 3
FRAME = training_frame(N_SESSIONS, N_SYMBOLS)
BEGINS = [40, 60, 80, 100]  # in sessions


def track(frame: pl.DataFrame = FRAME, **options: object) -> pl.DataFrame:
    return walk_forward_predict(
        frame, FEATURES, SMALL_MODELS, seed=1, embargo_sessions=EMBARGO, n_jobs=1, **options
    )  # type: ignore[arg-type]


WHOLE = track()


def changed(frame: pl.DataFrame, from_session: int, *columns: str) -> pl.DataFrame:
    """Other values in the rows from a session on."""
    late = pl.int_range(pl.len()) >= from_session * N_SYMBOLS
    return frame.with_columns(
        pl.when(late).then(pl.col(name) * -3).otherwise(pl.col(name)).alias(name) for name in columns
    )


def test_every_row_after_the_first_third_is_scored_once_in_the_order_given() -> None:
    assert WHOLE.select("symbol", "session").equals(FRAME.select("symbol", "session")[40 * N_SYMBOLS :])
    assert WHOLE["path_0"].is_finite().all()
    sizes = WHOLE.group_by("window", maintain_order=True).len().rows()
    assert sizes == [(window, 20 * N_SYMBOLS) for window in range(WINDOWS)]


@pytest.mark.parametrize("window", range(WINDOWS))
def test_no_score_of_a_window_depends_on_outcomes_that_were_not_known_when_it_begins(window: int) -> None:
    # Outcomes of the last six sessions before a window reach into it; three more lie in the embargo.
    known = BEGINS[window] - 6 - EMBARGO
    other = track(changed(FRAME, known, "target"))
    mine = pl.col("window") == window
    assert other.filter(mine).equals(WHOLE.filter(mine))


def test_an_outcome_that_was_told_late_is_learnt_by_no_window_before_that() -> None:
    """A name ended in session 11, and its listing said so in session 70: the window from session 80 on is the first
    that may know."""
    told = FRAME["t0"].unique().sort()[70]
    ended = (pl.col("symbol") == "S01") & (pl.int_range(pl.len()) // N_SYMBOLS == 10)
    late = FRAME.with_columns(known_at=pl.when(ended).then(told).otherwise("t1"))
    one, other = track(late), track(late.with_columns(target=pl.when(ended).then(5.0).otherwise("target")))
    same = [one.filter(window=w).equals(other.filter(window=w)) for w in range(WINDOWS)]
    assert same == [True, True, False, False]
    assert track(FRAME.with_columns(known_at="t1")).equals(WHOLE)


def test_scores_before_a_session_do_not_depend_on_features_from_it_on() -> None:
    other = track(changed(FRAME, 90, *FEATURES, "target"))
    before = 50 * N_SYMBOLS  # of the scored rows, which begin at session 40
    assert other[:before].equals(WHOLE[:before])
    assert not other[before:].equals(WHOLE[before:])


def test_what_the_past_holds_is_learnt() -> None:
    other = track(changed(FRAME, 0, "target"))
    assert np.corrcoef(other["path_0"], WHOLE["path_0"])[0, 1] < 0.0


def test_rows_that_can_be_decided_on_but_not_trained_on_are_scored() -> None:
    short = FRAME.filter(
        ~((pl.col("symbol") == "S01") & (pl.col("session") >= FRAME["session"][100 * N_SYMBOLS]))
    )
    found = track(short, scored=FRAME.select("symbol", "session", "t0", *FEATURES))
    assert found.select("symbol", "session").equals(WHOLE.select("symbol", "session"))
    assert found["path_0"].is_finite().all()


def test_shared_bins_are_not_shared_with_the_past() -> None:
    shared = SMALL_MODELS.model_copy(update={"binning": "shared"})
    found = walk_forward_predict(FRAME, FEATURES, shared, seed=1, embargo_sessions=EMBARGO, n_jobs=1)
    assert found.equals(WHOLE)


def test_the_comparison_begins_when_half_of_the_record_lies_behind() -> None:
    assert BEGINS[FIRST_COMPARED] == N_SESSIONS // 2


def test_the_number_of_workers_changes_no_score() -> None:
    found = walk_forward_predict(FRAME, FEATURES, SMALL_MODELS, seed=1, embargo_sessions=EMBARGO, n_jobs=2)
    assert found.equals(WHOLE)


def test_a_window_without_a_past_is_one_error() -> None:
    with pytest.raises(ModelError, match=r"testing window 0, no row.*lower embargo_sessions"):
        walk_forward_predict(FRAME, FEATURES, SMALL_MODELS, seed=1, embargo_sessions=40, n_jobs=1)
