"""When a drift report becomes a retraining run: a pure decision over facts that a sensor gathers."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from quant_assets.common.errors import DriftError
from quant_assets.common.settings import RetrainingConfig


@dataclass(frozen=True)
class Decision:
    """What to do about the latest drift report.

    Attributes
    ----------
    retrain : bool
    reason : str
        In words, for the run's tags or the skip message.
    run_key : str or None
        ``drift:<report version>:<attempt>`` of the run to request: the same attempt never runs twice.
    advance_cursor : bool
        Whether the report is done with. Not during a cool-down: the same report counts when it ends.
    """

    retrain: bool
    reason: str
    run_key: str | None
    advance_cursor: bool


def decide(
    *,
    drifted_features: int,
    min_features: int,
    report_version: str,
    last_acted_version: str | None,
    last_retrain: datetime | None,
    attempts: int,
    now: datetime,
    policy: RetrainingConfig,
) -> Decision:
    """Decide whether the latest drift report asks for a retraining.

    Parameters
    ----------
    drifted_features, min_features : int
        Features that drifted, and how many make an alarm.
    report_version : str
        Data version of the report.
    last_acted_version : str or None
        The cursor: version of the report that was last done with.
    last_retrain : datetime or None
        When the last retraining *started*, whether or not its candidate was promoted. Blocked ones count, or
        drift with a closed gate would retrain on every report.
    attempts : int
        Runs that were requested for this report and failed. A report that was acted on is taken up again
        only when its run failed, and at most ``max_attempts`` times in all.
    now : datetime
    policy : RetrainingConfig

    Raises
    ------
    DriftError
        When a time is naive, or a count is negative.
    """
    if now.tzinfo is None or (last_retrain is not None and last_retrain.tzinfo is None):
        raise DriftError(
            "retraining decision",
            expected="timezone-aware times",
            found=f"now {now.isoformat()}, last retraining {last_retrain}",
            action="pass datetime.now(UTC) and run times in UTC",
        )
    if min(drifted_features, attempts) < 0 or min_features < 1:
        raise DriftError(
            "retraining decision",
            expected="counts >= 0 and min_features >= 1",
            found=f"drifted {drifted_features}, attempts {attempts}, min_features {min_features}",
            action="read them from the drift report and from the runs by tag",
        )
    if last_acted_version == report_version and attempts == 0:
        return Decision(False, "latest drift report already acted on", None, advance_cursor=False)
    share = f"{drifted_features} drifted features, an alarm needs {min_features}"
    if drifted_features < min_features:
        return Decision(False, f"no drift: {share}", None, advance_cursor=True)
    if attempts >= policy.max_attempts:
        reason = f"attempts exhausted: {attempts} of {policy.max_attempts} runs for this report failed"
        return Decision(False, reason, None, advance_cursor=True)
    if last_retrain is not None:
        ready = last_retrain + timedelta(days=policy.cooldown_days)
        if now < ready:
            reason = f"cool-down until {ready.isoformat()} ({policy.cooldown_days:g} days after the last)"
            return Decision(False, reason, None, advance_cursor=False)
    run_key = f"drift:{report_version}:{attempts + 1}"
    return Decision(True, f"drift: {share}", run_key, advance_cursor=True)
