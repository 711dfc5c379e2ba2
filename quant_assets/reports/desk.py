"""The desk: what the Sharpe ratios of all strategies are worth beside everything that was ever tried. Information.

Nothing here opens or closes a gate. A gate judges a candidate among the trials of its own book; this page asks what
is left when the trials of every book are one search, as they are for whoever picks the best strategy of the desk.

Each trial that the ledger counts is one hypothesis. A strategy's track is its newest counted trial.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.files import Location
from quant_assets.common.pages import (
    ACCENT,
    FAN,
    GRID,
    INK,
    WARN,
    figure_png,
    page_environment,
    plot_label,
    png_data_uri,
    themed_figure,
)
from quant_assets.gates.details import plain_json
from quant_assets.ledgers.promotions import LedgerEntry
from quant_assets.ledgers.trial_records import Trial, promoted_anchors
from quant_assets.ledgers.trials import TrialLedger
from quant_assets.statistics import multiple_testing, sharpe
from quant_assets.statistics.multiple_testing import HAIRCUTS, MEAN
from quant_assets.trading.paths import autocorrelation

FEWEST_SHARED_SESSIONS = 252  # a year: below it the bootstrap knows no season of a strategy twice
MOST_DRAWN = 40
METHOD_WORDS = {"bonferroni": "Bonferroni", "holm": "Holm", "bhy": "BHY", MEAN: "mean of the three"}


# --------------------------------------------------------------------------------------------- what it is made of


@dataclass(frozen=True)
class Listed:
    """A configured strategy.

    Attributes
    ----------
    name, book : str
    periods_per_year : float
        Sessions a year of its calendar.
    ideas : frozenset of str
        Under which its looks would be counted today.
    """

    name: str
    book: str
    periods_per_year: float
    ideas: frozenset[str] = frozenset()


@dataclass(frozen=True)
class StrategyRow:
    """One strategy with a track.

    Attributes
    ----------
    strategy, book, fingerprint : str
        Whose track, where it counts, and which trial it is.
    recorded_at : str
        When that trial was counted (ISO 8601, UTC).
    book_trials : int
        Trials of its book as the gates count them: lost ones, and those of books on the same bars, included.
    sessions, first_session, last_session : int, str, str
    sharpe_per_period, sharpe_annual : float
        As shown, net of costs.
    p_value : float or None
        One-sided, of this track as the only one: 1 less the probabilistic Sharpe ratio. None without variance.
    two_sided_p_value : float
        Of the t-ratio, which the haircuts start from.
    haircut_sharpe_annual, haircut_fraction : mapping of str to float
        By method: what is left, and which share is lost (None for a Sharpe ratio of 0).
    superior : bool or None
        In StepM's list; None when StepM was not run.
    q_value : float
        Benjamini and Yekutieli, over the tracks of the desk.
    bound_per_period, bound_annual : float or None
        Rademacher lower bound of the Sharpe ratio on the shared sessions.
    """

    strategy: str
    book: str
    fingerprint: str
    recorded_at: str
    book_trials: int
    sessions: int
    first_session: str
    last_session: str
    sharpe_per_period: float
    sharpe_annual: float
    p_value: float | None
    two_sided_p_value: float
    haircut_sharpe_annual: Mapping[str, float]
    haircut_fraction: Mapping[str, float | None]
    superior: bool | None
    q_value: float
    bound_per_period: float | None
    bound_annual: float | None


@dataclass(frozen=True)
class Absent:
    """A strategy without a row, and why."""

    strategy: str
    book: str
    reason: str


@dataclass(frozen=True)
class Book:
    """One book of trials.

    Attributes
    ----------
    name : str
    trials, lost : int
        Its own counted trials, and its acknowledged losses, which keep counting.
    kin : tuple of str
        Books on mostly the same bars, which count in its N too.
    since : str
        Day of its first count; empty when it has none.
    """

    name: str
    trials: int
    lost: int
    kin: tuple[str, ...]
    since: str


@dataclass(frozen=True)
class Together:
    """What was computed over the sessions that all tracks share.

    Attributes
    ----------
    sessions, first_session, last_session : int, str, str
        Shared; empty when there are none.
    trials, left_out : int
        Trials that have all of them, and trials that do not.
    reason : str
        Why neither StepM nor bounds were computed; empty when they were.
    superior_trials, block_length, family_wise_rate : int, int, float
        Of StepM.
    data_snooping, estimation_error, confidence : float
        Of the Rademacher bounds, per session.
    """

    sessions: int
    first_session: str
    last_session: str
    trials: int
    left_out: int
    reason: str
    superior_trials: int = 0
    block_length: int = 0
    family_wise_rate: float = multiple_testing.FAMILY_WISE_RATE
    data_snooping: float = 0.0
    estimation_error: float = 0.0
    confidence: float = multiple_testing.CONFIDENCE


@dataclass(frozen=True)
class DeskReport:
    """Everything that the page shows.

    Attributes
    ----------
    rows : tuple of StrategyRow
        Highest Sharpe ratio first.
    absent : tuple of Absent
    books : tuple of Book
        Of the strategies, and those that count with them.
    other_books : tuple of str
        Books of this home that no configured strategy counts in. Their trials are in no figure.
    trials, lost : int
        Hypotheses of the desk, and how many of them are lost.
    since : str
        Day of the first count.
    standard : str
        Of the single-test p-value.
    together : Together
    """

    rows: tuple[StrategyRow, ...]
    absent: tuple[Absent, ...]
    books: tuple[Book, ...]
    other_books: tuple[str, ...]
    trials: int
    lost: int
    since: str
    standard: str
    together: Together

    def to_json(self) -> dict[str, Any]:
        """Plain data; a number that does not exist is None."""
        plain: dict[str, Any] = plain_json(asdict(self))
        return plain


# ------------------------------------------------------------------------------------------------- the statistics


def desk_statistics(
    home: Location,
    strategies: Sequence[Listed],
    *,
    standard: sharpe.SharpeStandard,
    decided: Iterable[LedgerEntry] = (),
) -> DeskReport:
    """Read the ledgers of every strategy's book, and judge all tracks beside all trials.

    Parameters
    ----------
    home : Path or UPath
        Trials are below ``trials/``.
    strategies : sequence of Listed
        Every configured one.
    standard : {"2012", "2025"}
        Of the probabilistic Sharpe ratio.
    decided : iterable of LedgerEntry
        The promotion ledger: each book is held to where it stood at each decision.

    Raises
    ------
    LedgerError
        When a book is damaged, or shorter than it was.
    """
    ledger, anchors = TrialLedger(home), promoted_anchors(decided)
    counted = {book: ledger.whole(book, anchors)[1] for book in sorted({s.book for s in strategies})}
    # A trial of a book counts in each of its kin: here it is one hypothesis.
    every = {(t.book, t.fingerprint): t for trials in counted.values() for t in trials}
    trials = [every[key] for key in sorted(every)]
    names = sorted({*counted, *(trial.book for trial in trials)})
    books = {name: _book(ledger, name, trials, counted) for name in names}
    lost = sum(book.lost for book in books.values())

    tracks: dict[str, Trial] = {}
    absent = []
    for listed in strategies:
        own = [t for t in counted[listed.book] if (t.book, t.strategy) == (listed.book, listed.name)]
        if own:
            tracks[listed.name] = max(own, key=lambda t: (t.recorded_at, t.fingerprint))
        else:
            reason = _why_absent(ledger, listed, counted[listed.book])
            absent.append(Absent(listed.name, listed.book, reason))

    streams = {key: ledger.stream(trial) for key, trial in every.items()}
    together, superior, bounds = _over_shared_sessions(list(tracks.values()), trials, streams)
    ratios, lengths = [t.sharpe_per_period for t in trials], [t.n_obs for t in trials]
    haircut = multiple_testing.haircut_sharpe(ratios, lengths, lost)
    p_values = {name: _p_value(streams[t.book, t.fingerprint][0], standard) for name, t in tracks.items()}
    rates = multiple_testing.false_discovery_rates(list(p_values.values()))
    q_values = dict(zip(p_values, rates.tolist(), strict=True))
    rows = []
    for listed in (s for s in strategies if s.name in tracks):
        trial = tracks[listed.name]
        key = (trial.book, trial.fingerprint)
        days = streams[key][1].astype("datetime64[D]")
        place, bound = trials.index(trial), bounds.get(key, float("nan"))

        def annual(ratio: float, periods: float = listed.periods_per_year) -> float:
            return float(sharpe.annualised_sharpe(ratio, periods))

        rows.append(
            StrategyRow(
                strategy=listed.name,
                book=listed.book,
                fingerprint=trial.fingerprint,
                recorded_at=trial.recorded_at,
                book_trials=len(counted[listed.book]) + books[listed.book].lost,
                sessions=trial.n_obs,
                first_session=str(days[0]),
                last_session=str(days[-1]),
                sharpe_per_period=trial.sharpe_per_period,
                sharpe_annual=annual(trial.sharpe_per_period),
                p_value=_known(p_values[listed.name]),
                two_sided_p_value=float(haircut.p_values[place]),
                haircut_sharpe_annual={m: annual(float(haircut.sharpes[m][place])) for m in HAIRCUTS},
                haircut_fraction={m: _known(float(haircut.haircuts[m][place])) for m in HAIRCUTS},
                superior=None if superior is None else key in superior,
                q_value=q_values[listed.name],
                bound_per_period=_known(bound),
                bound_annual=_known(annual(bound)),
            )
        )
    return DeskReport(
        rows=tuple(sorted(rows, key=lambda row: (-row.sharpe_annual, row.strategy))),
        absent=tuple(absent),
        books=tuple(books.values()),
        other_books=tuple(sorted(set(ledger.books()) - set(books) - {s.name for s in strategies})),
        trials=len(trials) + lost,
        lost=lost,
        since=min((book.since for book in books.values() if book.since), default=""),
        standard=standard,
        together=together,
    )


def _book(
    ledger: TrialLedger, name: str, trials: Sequence[Trial], counted: Mapping[str, Sequence[Trial]]
) -> Book:
    kin = {trial.book for trial in counted.get(name, ())} - {name}
    return Book(
        name,
        sum(trial.book == name for trial in trials),
        sum(loss.lost_trials for loss in ledger.anchors.acknowledgements(name)),
        tuple(sorted(kin)),
        ledger.since(name)[:10],
    )


def _why_absent(ledger: TrialLedger, listed: Listed, counted: Sequence[Trial]) -> str:
    others = sorted({trial.strategy for trial in counted if trial.idea in listed.ideas})
    if others:
        return f"its idea was first looked at as {', '.join(others)}: one idea is one track, under that name"
    earlier = len(ledger.trials(listed.name)) if listed.name in {*ledger.books()} - {listed.book} else 0
    if earlier:
        return f"only {earlier} in a ledger of its own, of before books: it is taken over at its next look"
    return f"never evaluated: no trial of {listed.book} bears its name"


def _p_value(returns: NDArray[np.float64], standard: sharpe.SharpeStandard) -> float:
    """One-sided, of the Sharpe ratio against 0, as the gate of the probabilistic Sharpe ratio has it."""
    ratio, rho = sharpe.sharpe_ratio(returns), autocorrelation(returns) if standard == "2025" else 0.0
    psr = sharpe.probabilistic_sharpe_ratio(
        ratio, len(returns), *sharpe.moments(returns), standard=standard, autocorrelation=rho
    )
    return 1.0 - float(psr)


Which = tuple[str, str]
Stream = tuple[NDArray[np.float64], NDArray[np.int64]]


def _over_shared_sessions(
    tracks: Sequence[Trial], trials: Sequence[Trial], streams: Mapping[Which, Stream]
) -> tuple[Together, frozenset[Which] | None, dict[Which, float]]:
    """StepM and Rademacher bounds over the trials that have every session which the tracks share.

    Returns
    -------
    Together
    superior : frozenset of (book, fingerprint) or None
        StepM's list; None when it was not run.
    bounds : dict
        Per session, by (book, fingerprint).
    """
    shared = np.empty(0, dtype=np.int64)
    for number, track in enumerate(tracks):
        days = streams[track.book, track.fingerprint][1]
        shared = np.intersect1d(shared, days, assume_unique=True) if number else days
    first, last = (str(d) for d in shared[[0, -1]].astype("datetime64[D]")) if shared.size else ("", "")
    if shared.size < FEWEST_SHARED_SESSIONS:
        reason = (
            f"the tracks share {shared.size} sessions, and {FEWEST_SHARED_SESSIONS} are needed"
            if tracks
            else "no strategy has a track"
        )
        return Together(int(shared.size), first, last, 0, len(trials), reason), None, {}
    columns: dict[Which, NDArray[np.float64]] = {}
    for trial in trials:
        values, days = streams[trial.book, trial.fingerprint]
        found = np.isin(days, shared, assume_unique=True)
        if found.sum() == shared.size:
            columns[trial.book, trial.fingerprint] = values[found]
    matrix, keys = np.column_stack(list(columns.values())), list(columns)
    together = Together(int(shared.size), first, last, len(keys), len(trials) - len(keys), "")
    if multiple_testing.varying(matrix).size == 0:
        return replace(together, reason="no trial varies on them"), None, {}
    step = multiple_testing.stepwise_superior_trials(matrix)
    found_bounds = multiple_testing.rademacher_bounds(matrix)
    together = replace(
        together,
        superior_trials=len(step.superior),
        block_length=step.block_length,
        data_snooping=found_bounds.data_snooping,
        estimation_error=found_bounds.estimation_error,
    )
    bounds = dict(zip(keys, found_bounds.lower.tolist(), strict=True))
    return together, frozenset(keys[column] for column in step.superior), bounds


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


# ------------------------------------------------------------------------------------------- tables and the page


def strategy_table(report: DeskReport) -> pl.DataFrame:
    """Strategies with a track, for people and the UI."""
    rows = [
        {
            "strategy": row.strategy,
            "book": row.book,
            "book_trials": row.book_trials,
            "desk_trials": report.trials,
            "sessions": row.sessions,
            "sharpe_annual": row.sharpe_annual,
            "p_value": row.p_value,
            **{f"haircut_{method}": row.haircut_sharpe_annual[method] for method in HAIRCUTS},
            "stepm": STEPM_WORDS[row.superior],
            "q_value": row.q_value,
            "rademacher_bound": row.bound_annual,
        }
        for row in report.rows
    ]
    return pl.DataFrame(
        rows,
        infer_schema_length=None,
        schema_overrides={"p_value": pl.Float64, "rademacher_bound": pl.Float64},
    )


STEPM_WORDS = {True: "yes", False: "no", None: "not run"}


def absent_table(report: DeskReport) -> pl.DataFrame:
    """Strategies without a row, with the reason."""
    schema = dict.fromkeys(("strategy", "book", "reason"), pl.String)
    return pl.DataFrame([asdict(row) for row in report.absent], schema=schema)


def haircut_plot(rows: Sequence[StrategyRow]) -> str:
    """Annual Sharpe ratio of each strategy as shown, and what the adjustments leave of it; a ``data:`` address."""
    shown = rows[:MOST_DRAWN]
    places = np.arange(len(shown))[::-1]
    left = np.array([[row.haircut_sharpe_annual[method] for method in HAIRCUTS] for row in shown])
    ratios = np.array([row.sharpe_annual for row in shown])
    with themed_figure(6.4, 1.2 + 0.28 * len(shown)) as (figure, axes):
        axes.hlines(places, left[:, -1], ratios, color=GRID, linewidth=2.4, zorder=1)
        axes.hlines(places, left.min(axis=1), left.max(axis=1), color=WARN, linewidth=2.4, zorder=2)
        axes.scatter(ratios, places, s=60, color=ACCENT, zorder=4, label="as shown")
        axes.scatter(
            left[:, -1], places, s=60, color=FAN, edgecolor=WARN, zorder=3, label="haircut, mean and range"
        )
        axes.axvline(0.0, color=INK, linewidth=0.8, zorder=0)
        axes.set_yticks(places, [plot_label(row.strategy) for row in shown], color=INK)
        axes.set_ylim(-0.7, len(shown) - 0.3)
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.08)
        axes.set_xlabel("annual Sharpe ratio, net of costs")
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=2, columnspacing=1.4, handlelength=1.6
        )
        return png_data_uri(figure_png(figure))


def render_desk(report: DeskReport) -> str:
    """The page as HTML text: self-contained, everything escaped, the same ledgers give the same bytes."""
    environment = page_environment(Path(__file__).parent)
    environment.filters["chance"] = _chance
    return environment.get_template("desk.html.j2").render(
        report=report,
        together=report.together,
        methods=METHOD_WORDS,
        mean=MEAN,
        stepm_words=STEPM_WORDS,
        plot=haircut_plot(report.rows) if report.rows else None,
        undrawn=max(len(report.rows) - MOST_DRAWN, 0),
    )


def _chance(value: float | None) -> str:
    """A p- or q-value; none is shown as 0."""
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
