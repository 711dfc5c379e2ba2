"""From artifacts to verdicts: the one way in which the report, the tear sheet and the record judge a candidate.

All three read the same evidence (paths, ledger, candidate) through `judge_evidence`, so they cannot disagree.
"""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from quant_assets.common.errors import EvidenceError
from quant_assets.common.files import Location
from quant_assets.common.hashing import frame_digest
from quant_assets.common.pages import publish_page
from quant_assets.common.store import Table
from quant_assets.gates.limits import GatesConfig
from quant_assets.gates.verdicts import GateReport

if TYPE_CHECKING:
    from quant_assets.ledgers.trials import Trial


def count_trial(root: Location, strategy: str, paths: Table, *, run_id: str) -> dict[str, Any]:
    """Enter an evaluation into the trial ledger, once, and return the ledger as it stands.

    Parameters
    ----------
    root : Path or UPath
        The platform's home: trials are below ``trials/``.
    paths : Table
        Path returns; the stream of the path with the median Sharpe ratio is the trial's.

    Notes
    -----
    The trial's fingerprint is the content of its path returns: the same evaluation is the same trial, however
    often and by whatever version of the code it is run, and any other outcome that was looked at is another one.
    """
    from quant_assets.ledgers.trials import TrialLedger

    enter_trial(root, strategy, paths, run_id=run_id)
    snapshot = asdict(TrialLedger(root).snapshot(strategy))
    return {**snapshot, "sharpes": list(snapshot["sharpes"])}


def enter_trial(root: Location, strategy: str, paths: Table, *, run_id: str) -> "Trial":
    """Enter an evaluation into the trial ledger, once; see `count_trial`."""
    from quant_assets.ledgers.trials import TrialLedger, trial_of
    from quant_assets.trading.paths import median_path, path_statistics

    # Which path is the median depends on the order of Sharpe ratios only, not on periods per year.
    median = median_path(path_statistics(paths.frame, 252.0, standard="2012"))
    stream = paths.frame.filter(pl.col("path") == median.path).sort("session")
    returns, sessions = stream["net_return"].to_numpy(), stream["session"].to_numpy()
    trial = trial_of(
        strategy,
        frame_digest(paths.frame),
        returns,
        sessions,
        run_id=run_id,
        recorded_at=datetime.now(UTC).isoformat(),
    )
    return TrialLedger(root).append(trial, returns, sessions)


def require_recipe(what: str, found: str | None, candidate: Mapping[str, Any]) -> None:
    """Refuse evidence that was made from other data, settings or code than the candidate.

    Raises
    ------
    EvidenceError
        An ensemble refitted after its cross-validation (or before it) has no evidence until both agree.
    """
    if found != candidate["recipe"]:
        raise EvidenceError(
            what,
            expected=f"evidence of recipe {candidate['recipe'][:12]}, which the candidate was made from",
            found=f"recipe {str(found)[:12]}",
            action="materialise cpcv_predictions and everything after it together with the ensemble",
        )


def judge_evidence(
    paths: Table,
    ledger: Mapping[str, Any],
    candidate: Mapping[str, Any],
    subject: str,
    *,
    home: Location,
    periods_per_year: float,
    limits: GatesConfig,
) -> GateReport:
    """Judge a candidate by its path returns and the trials counted so far.

    Parameters
    ----------
    paths, ledger, candidate
        The artifacts ``cpcv_paths``, ``trial_ledger`` and ``ensemble``.
    subject : str
        Data version of the candidate.

    Raises
    ------
    EvidenceError
        When the paths were made from another recipe than the candidate, or the ledger has moved on.
    LedgerError
        When the ledger has lost or changed a trial since the snapshot was taken.
    """
    from quant_assets.gates.judging import judge_candidate
    from quant_assets.ledgers.trials import TrialLedger, TrialSnapshot

    require_recipe("path returns", paths.metadata.get("recipe"), candidate)
    snapshot = TrialSnapshot(**{**ledger, "sharpes": tuple(ledger["sharpes"])})
    book = TrialLedger(home)
    book.require(snapshot.strategy, snapshot.chain_length, snapshot.chain_head)
    if book.snapshot(snapshot.strategy).digest != snapshot.digest:
        raise EvidenceError(
            f"trial ledger of {snapshot.strategy}",
            expected=f"the {snapshot.n_trials} trials that the ledger asset saw",
            found="more: another configuration was evaluated since",
            action="materialise trial_ledger and everything after it again, so that every trial counts",
        )
    returns = book.returns_matrix(snapshot.strategy) if snapshot.n_trials > 1 else None
    return judge_candidate(subject, paths.frame, snapshot, limits, periods_per_year, trial_returns=returns)


def verdict_table(report: GateReport) -> pl.DataFrame:
    """Verdicts as a table for people."""
    columns = ("gate", "status", "observed", "comparison", "required", "reason", "remedy")
    rows = [{c: asdict(v)[c] for c in columns} for v in report.verdicts]
    return pl.DataFrame(rows, schema_overrides={"observed": pl.Float64, "required": pl.Float64})


def statistics_table(paths: Table, periods_per_year: float) -> pl.DataFrame:
    """Statistics of each path as a table for people."""
    from quant_assets.trading.paths import path_statistics

    return pl.DataFrame([asdict(s) for s in path_statistics(paths.frame, periods_per_year)])


def equity_plot(paths: Table) -> str:
    """Net equity of every path over time, as a data URI."""
    from quant_assets.common.pages import FAN, figure_png, new_figure, png_data_uri

    figure, axes = new_figure(7.0, 2.8)
    for _, path in paths.frame.sort("path", "session").group_by("path", maintain_order=True):
        equity = (1.0 + path["net_return"]).cum_prod()
        axes.plot(path["session"].to_numpy(), equity.to_numpy(), color=FAN, linewidth=1.0)
    axes.axhline(1.0, linewidth=0.8)
    axes.set_ylabel("equity, net of costs")
    return png_data_uri(figure_png(figure))


def publish_html(home: Location, strategy: str, subject: str, html: str) -> Location:
    """Put a tear sheet where a browser opens it: one immutable file per content below ``reports/``."""
    return publish_page(home, f"{strategy}-{subject[:12]}", html)
