"""The retraining decision, row by row."""

from datetime import UTC, datetime, timedelta

import pytest

from quant_assets.common.errors import DriftError
from quant_assets.common.settings import RetrainingConfig
from quant_assets.monitoring.retraining import Decision, decide

NOW = datetime(2026, 3, 2, 21, 0, tzinfo=UTC)
POLICY = RetrainingConfig(cooldown_days=5, max_attempts=3)


def ask(
    drifted: int = 4,
    *,
    acted: str | None = None,
    days_ago: float | None = None,
    attempts: int = 0,
    policy: RetrainingConfig = POLICY,
) -> Decision:
    return decide(
        drifted_features=drifted,
        min_features=3,
        report_version="r1",
        last_acted_version=acted,
        last_retrain=None if days_ago is None else NOW - timedelta(days=days_ago),
        attempts=attempts,
        now=NOW,
        policy=policy,
    )


@pytest.mark.parametrize(
    ("decision", "retrain", "reason", "run_key", "advance"),
    [
        (ask(), True, "drift: 4 drifted features", "drift:r1:1", True),
        (ask(3), True, "drift: 3 drifted features", "drift:r1:1", True),
        (ask(2), False, "no drift: 2 drifted features", None, True),
        (ask(0), False, "no drift", None, True),
        (ask(acted="r0"), True, "drift", "drift:r1:1", True),
        (ask(acted="r1"), False, "already acted", None, False),
        (ask(acted="r1", days_ago=30), False, "already acted", None, False),
        (ask(days_ago=4.9), False, "cool-down until 2026-03-02T23:24:00", None, False),
        (ask(days_ago=5.0), True, "drift", "drift:r1:1", True),
        (ask(2, days_ago=1), False, "no drift", None, True),
        (ask(attempts=1, days_ago=6), True, "drift", "drift:r1:2", True),
        (ask(acted="r1", attempts=2, days_ago=6), True, "drift", "drift:r1:3", True),
        (ask(acted="r1", attempts=2, days_ago=1), False, "cool-down", None, False),
        (ask(attempts=3, days_ago=60), False, "attempts exhausted: 3 of 3", None, True),
        (ask(attempts=4), False, "attempts exhausted: 4 of 3", None, True),
        (ask(days_ago=0, policy=RetrainingConfig(cooldown_days=0)), True, "drift", "drift:r1:1", True),
    ],
)
def test_a_report_becomes_a_retraining_only_by_the_policy(
    decision: Decision, retrain: bool, reason: str, run_key: str | None, advance: bool
) -> None:
    assert reason in decision.reason
    assert (decision.retrain, decision.run_key, decision.advance_cursor) == (retrain, run_key, advance)


def test_a_report_skipped_in_the_cool_down_is_taken_up_when_it_ends() -> None:
    skipped = ask(days_ago=4)
    assert (skipped.retrain, skipped.advance_cursor) == (False, False)
    assert ask(days_ago=5.1).retrain


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(DriftError, match="timezone-aware"):
        decide(
            drifted_features=4,
            min_features=3,
            report_version="r1",
            last_acted_version=None,
            last_retrain=datetime(2026, 3, 1),
            attempts=0,
            now=NOW,
            policy=POLICY,
        )


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(DriftError, match="drifted -1"):
        ask(-1)
