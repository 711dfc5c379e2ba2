"""From artifacts to verdicts: the one way in which the report, the tear sheet and the record judge a candidate.

All three read the same evidence (paths, ledger, candidate) through `judge_evidence`, so they cannot disagree.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.errors import EvidenceError
from quant_assets.common.files import Location
from quant_assets.common.hashing import frame_digest, json_digest
from quant_assets.common.pages import publish_page
from quant_assets.common.store import Table
from quant_assets.gates.cases import ValidationCase
from quant_assets.gates.details import gate_details
from quant_assets.gates.gate import gates_of
from quant_assets.gates.limits import GatesConfig
from quant_assets.gates.panel_identity import panel_digest as panel_digest
from quant_assets.gates.panel_identity import panel_sketch as panel_sketch
from quant_assets.gates.verdicts import GateReport

if TYPE_CHECKING:
    from quant_assets.ledgers.promotions import LedgerEntry
    from quant_assets.ledgers.trials import Trial, TrialSnapshot


# ---------------------------------------------------------------- judging a candidate by its cross-validation

# The gates read net returns of the paths and the trial ledger, nothing else. The number of trials cannot be given by
# a caller: it comes with the ledger's snapshot, which must hold the very evaluation that is being judged.


# --------------------------------------------------------------------------------------------------- verdicts


def judge_candidate(
    subject: str,
    path_returns: pl.DataFrame,
    snapshot: "TrialSnapshot",
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
        As made by `quant_assets.trading.paths.path_returns`.
    snapshot : TrialSnapshot
        Of the strategy's book of trials, after the candidate's own evaluation (the net returns of its median path)
        was appended.
    limits : GatesConfig
        The limits in force for the strategy (`GatesConfig.for_strategy`).
    periods_per_year : float
        Sessions per year, from the calendar.
    trial_returns : array, shape (sessions, trials), optional
        `TrialLedger.returns_matrix` of the same ledger, NaN where a trial has no such session; needed from two trials
        on.

    Returns
    -------
    GateReport
        Of kind ``validation``, with exactly one verdict of each gate that is registered for it.

    Raises
    ------
    EvidenceError
        When the snapshot does not hold this evaluation, or the return streams are not those of the snapshot.
    """
    from quant_assets.trading.paths import median_path, path_statistics

    statistics = path_statistics(path_returns, periods_per_year, standard=limits.psr_standard)
    by_path = path_returns.sort("path", "session").partition_by("path", maintain_order=True)
    case = ValidationCase(
        subject,
        limits,
        statistics,
        median_path(statistics),
        snapshot,
        periods_per_year,
        np.stack([path["net_return"].to_numpy() for path in by_path]),
        trial_returns,
    )
    _check_ledger(case)
    verdicts = tuple(gate.judge(case) for gate in gates_of("validation"))
    return GateReport("validation", subject, limits.model_dump(mode="json"), verdicts, gate_details(case))


def _check_ledger(case: ValidationCase) -> None:
    snapshot, trial_returns = case.snapshot, case.trial_returns
    # The ledger records a stream without variance with a Sharpe ratio of 0.
    own = 0.0 if math.isnan(case.median.sharpe_per_period) else case.median.sharpe_per_period
    recorded = any(abs(own - other) <= 1e-12 for other in snapshot.sharpes)
    if not recorded:
        raise EvidenceError(
            f"trial ledger of {snapshot.book}",
            expected=f"the evaluation that is judged, a Sharpe ratio of {own:.6g} per session",
            found=f"{snapshot.n_trials} trials without it",
            action="append the median path's net returns to the ledger before judging them",
        )
    if sorted(snapshot.arrival) != list(range(len(snapshot.sharpes))):
        raise EvidenceError(
            f"trial ledger of {snapshot.book}",
            expected=f"the order in which its {len(snapshot.sharpes)} trials arrived",
            found=f"places {snapshot.arrival}",
            action="take the snapshot from the TrialLedger",
        )
    columns, streams = 0 if trial_returns is None else trial_returns.shape[1], len(snapshot.sharpes)
    if streams > 1 and columns != streams:
        raise EvidenceError(
            f"return streams of {snapshot.book}",
            expected=f"one column for each of the ledger's {streams} streams",
            found=f"{columns}",
            action="take both from the same TrialLedger",
        )


# --------------------------------------------------------------------------------------------------- evidence


@dataclass(frozen=True)
class Look:
    """Who looks at an outcome, and of which idea.

    Attributes
    ----------
    book : str
        Where it counts: the universe and the label family.
    strategy : str
    idea : str
        Digest of the code and the configuration of everything behind what is looked at.
    run_id : str
    """

    book: str
    strategy: str
    idea: str
    run_id: str


ANCHOR_FACT = "trial_anchor"  # under which events say where the ledger stood


def enter_trial(
    root: Location,
    look: Look,
    paths: Table,
    bars: pl.DataFrame,
    members: pl.DataFrame | None = None,
    kind: str = "",
) -> "Trial":
    """Enter an evaluation into the trial ledger, once.

    Parameters
    ----------
    root : Path or UPath
        The platform's home: trials are below ``trials/``.
    look : Look
    paths : Table
        Path returns; the stream of the path with the median Sharpe ratio is the trial's.
    bars : polars.DataFrame
        The adjusted panel that they were made from.
    members : polars.DataFrame, optional
        As `panel_digest`.
    kind : {"", "draft"}
        See `quant_assets.ledgers.trial_records.Trial`.

    Notes
    -----
    The trial's fingerprint is that of the idea and of its path returns. The same evaluation is the same trial,
    however often it is run and under whatever strategy's name; any other number, date, symbol or outcome is another
    one, except for the same idea on the same bars and newer ones, which goes on with its own track.

    Raises
    ------
    LedgerError
        When the ledger is damaged, or shorter than it was.
    """
    from quant_assets.ledgers.trials import TrialLedger, trial_of
    from quant_assets.trading.paths import median_path, path_statistics

    # Which path is the median depends on the order of Sharpe ratios only, not on periods per year.
    median = median_path(path_statistics(paths.frame, 252.0, standard="2012"))
    stream = paths.frame.filter(pl.col("path") == median.path).sort("session")
    returns, sessions = stream["net_return"].to_numpy(), stream["session"].to_numpy()
    ledger, until = TrialLedger(root), bars["session"].max()
    if not isinstance(until, date):
        raise EvidenceError(
            f"trial of {look.strategy}",
            expected="the bars that its paths were made from",
            found=f"{bars.height} rows, the last session {until!r}",
            action="give the panel that was traded",
        )
    ledger.adopt(look.book, look.strategy)
    fingerprint = json_digest({"idea": look.idea, "outcome": frame_digest(paths.frame)})
    seen_at = datetime.now(UTC).isoformat()
    described = trial_of(look.book, fingerprint, returns, sessions, run_id=look.run_id, recorded_at=seen_at)
    trial = replace(
        described,
        strategy=look.strategy,
        idea=look.idea,
        kind=kind,
        panel_until=until.isoformat(),
        panel_sha256=panel_digest(bars, until, members),
        sketch_sha256=ledger.keep_sketch(panel_sketch(bars)),
        continues=ledger.continued(
            look.book,
            look.idea,
            until,
            lambda earlier: panel_digest(bars, earlier, members),
            described.returns_sha256,
        ),
    )
    return ledger.append(trial, returns, sessions)


def count_trial(
    root: Location,
    look: Look,
    paths: Table,
    bars: pl.DataFrame,
    *,
    earlier: Mapping[str, Any] | None,
    decided: "Iterable[LedgerEntry]",
    members: pl.DataFrame | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Enter an evaluation into the trial ledger, once, and return the book as it stands, and what people are told.

    Parameters
    ----------
    earlier : mapping, optional
        The book as this asset saw it before, to which it is held.
    decided : iterable of LedgerEntry
        The promotion ledger: the book is held to where it stood at each decision too.
    members : polars.DataFrame, optional
        As `panel_digest`.

    Raises
    ------
    LedgerError
        As `enter_trial`.
    """
    from quant_assets.ledgers.trial_records import Anchor, promoted_anchors
    from quant_assets.ledgers.trials import TrialLedger

    # What was seen under another universe or label, or by a platform that counted for each strategy, holds nothing.
    seen = dict(earlier or {})
    anchors = [*promoted_anchors(decided), *([Anchor.of(seen)] if seen.get("book") == look.book else [])]
    ledger = TrialLedger(root)
    ledger.anchors.require(look.book, ledger.heads, anchors)
    trial = enter_trial(root, look, paths, bars, members)
    snapshot = ledger.snapshot(look.book, anchors)
    facts = {
        "trial": trial.fingerprint,
        **counted_facts(root, look.book),
        "n_trials": snapshot.n_trials,
        "effective_number_of_trials": snapshot.effective_number_of_trials,
    }
    return snapshot.record, facts


def counted_facts(root: Location, book: str) -> dict[str, Any]:
    """What whoever looks at a trial is told of the ledger: where it stands, and since when trials are counted."""
    from quant_assets.ledgers.trials import TrialLedger

    ledger = TrialLedger(root)
    return {ANCHOR_FACT: ledger.anchor(book).text, "trials_counted_since": ledger.since(book)[:10]}


def counted_sentence(root: Location, report: GateReport) -> str:
    """What a page says about the trials behind its figures."""
    trials = report.details["trials"]
    facts = counted_facts(root, trials["book"])
    lost = f", {trials['lost_trials']} of them lost" if trials["lost_trials"] else ""
    trial = "trial" if trials["n_trials"] == 1 else "trials"
    return (
        f"N = {trials['n_trials']} {trial} of {trials['book']}{lost}, counted since {facts['trials_counted_since']}; "
        "what was looked at before, or elsewhere, is in no figure."
    )


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
        When the paths were made from another recipe than the candidate, the ledger has moved on, or its snapshot is
        one of an earlier version.
    LedgerError
        When the ledger has lost or changed a trial since the snapshot was taken.
    """
    from quant_assets.ledgers.trials import TrialLedger, TrialSnapshot

    require_recipe("path returns", paths.metadata.get("recipe"), candidate)
    snapshot = TrialSnapshot.stored(ledger)
    book = TrialLedger(home)
    if book.snapshot(snapshot.book, [snapshot.anchor]).digest != snapshot.digest:
        raise EvidenceError(
            f"trial ledger of {snapshot.book}",
            expected=f"the {snapshot.n_trials} trials that the ledger asset saw",
            found="more: another configuration was evaluated since",
            action="materialise trial_ledger and everything after it again, so that every trial counts",
        )
    returns = book.returns_matrix(snapshot.book) if len(snapshot.sharpes) > 1 else None
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
