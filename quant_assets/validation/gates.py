"""The gates of cross-validation: five verdicts about one candidate, each with its error rate and its remedy.

They read net returns of the paths and the trial ledger, nothing else. The number of trials cannot be given by
a caller: it comes with the ledger's snapshot, which must hold the very evaluation that is being judged.
"""

import math

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.errors import EvidenceError
from quant_assets.common.settings import GatesConfig
from quant_assets.validation import gate_rules as rules
from quant_assets.validation.gate_details import plain_details
from quant_assets.validation.paths import median_path, path_statistics
from quant_assets.validation.trials import TrialSnapshot
from quant_assets.validation.verdicts import GateReport


def judge_candidate(
    subject: str,
    path_returns: pl.DataFrame,
    snapshot: TrialSnapshot,
    limits: GatesConfig,
    periods_per_year: float,
    trial_returns: NDArray[np.float64] | None = None,
) -> GateReport:
    """Judge one candidate by its cross-validated net returns.

    Parameters
    ----------
    subject : str
        Data version of the candidate model.
    path_returns : polars.DataFrame
        As made by `quant_assets.validation.paths.path_returns`.
    snapshot : TrialSnapshot
        Of the strategy's ledger, after the candidate's own evaluation (the net returns of its median path) was
        appended.
    limits : GatesConfig
        The limits in force for the strategy (`GatesConfig.for_strategy`).
    periods_per_year : float
        Sessions per year, from the calendar.
    trial_returns : array, shape (sessions, trials), optional
        `TrialLedger.returns_matrix` of the same ledger; needed from two trials on.

    Returns
    -------
    GateReport
        Of kind ``validation``, with exactly one verdict of each gate in ``CPCV_GATES``.

    Raises
    ------
    EvidenceError
        When the snapshot does not hold this evaluation, or the return streams are not those of the snapshot.
    """
    statistics = path_statistics(path_returns, periods_per_year, standard=limits.psr_standard)
    case = rules.Case(subject, statistics, median_path(statistics), snapshot, limits, periods_per_year)
    _check_ledger(case, trial_returns)
    overfitting = rules.backtest_overfitting(trial_returns, snapshot)
    probability = overfitting.pbo if overfitting else None
    verdicts = (
        rules.judge_sharpe(case),
        rules.judge_probabilistic_sharpe(case),
        rules.judge_deflated_sharpe(case),
        rules.judge_drawdown(case),
        rules.judge_overfitting(case, probability),
    )
    details = plain_details(
        statistics,
        case.median,
        snapshot,
        overfitting,
        rules.best_of_trials(trial_returns, snapshot),
        periods_per_year=periods_per_year,
        standard=limits.psr_standard,
        minimum_track_record_sessions=rules.required_record(case),
        drawdown_worst_decile_fraction=rules.worst_decile(case),
        probability_of_backtest_overfitting=probability,
    )
    return GateReport("validation", subject, limits.model_dump(mode="json"), verdicts, details)


def _check_ledger(case: rules.Case, trial_returns: NDArray[np.float64] | None) -> None:
    snapshot = case.snapshot
    # The ledger records a stream without variance with a Sharpe ratio of 0.
    own = 0.0 if math.isnan(case.median.sharpe_per_period) else case.median.sharpe_per_period
    recorded = any(abs(own - other) <= 1e-12 for other in snapshot.sharpes)
    if not recorded:
        raise EvidenceError(
            f"trial ledger of {snapshot.strategy}",
            expected=f"the evaluation that is judged, a Sharpe ratio of {own:.6g} per session",
            found=f"{snapshot.n_trials} trials without it",
            action="append the median path's net returns to the ledger before judging them",
        )
    columns = 0 if trial_returns is None else trial_returns.shape[1]
    if snapshot.n_trials > 1 and columns != snapshot.n_trials:
        raise EvidenceError(
            f"return streams of {snapshot.strategy}",
            expected=f"one column for each of the ledger's {snapshot.n_trials} trials",
            found=f"{columns}",
            action="take both from the same TrialLedger",
        )
