"""The desk on one page: what stands where, why, how it got there, and any two candidates side by side.

It shows what others found out: verdicts of the reports, decisions of the promotion ledger, trials of the trial
ledger. It judges nothing.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from quant_assets.common.pages import compact, limit, page_environment, script_source
from quant_assets.gates.admission import closed_reasons
from quant_assets.gates.gate import gate_title, gates
from quant_assets.gates.verdicts import GateReport, Verdict
from quant_assets.ledgers.promotions import LedgerEntry
from quant_assets.reports.desk import DeskReport
from quant_assets.reports.tear_sheet import STATUS_WORDS, gate_number

SCRIPT = Path(__file__).with_name("desk_page.js").read_text(encoding="utf-8")
# What a server of the pages lets run.
SCRIPTS = (SCRIPT,)
SHARPE_GATE, DEFLATED_GATE = "cpcv_sharpe", "cpcv_deflated_sharpe"
MOST_COMPARED = 5  # versions of one strategy
MOST_POINTS = 160  # of an equity curve: a point for each four pixels of a wide screen
State = Literal["in charge", "promoted", "refused", "gates open", "gates closed", "no candidate"]
STATE_CLASSES: Mapping[State, str] = {
    "in charge": "pass",
    "promoted": "pass",
    "refused": "fail",
    "gates open": "underpowered",
    "gates closed": "fail",
    "no candidate": "not_applicable",
}


# --------------------------------------------------------------------------------------------- what it is made of


@dataclass(frozen=True)
class Judged:
    """One version of a validation report.

    Attributes
    ----------
    at : datetime
        When it was last made (UTC).
    report : GateReport
    days, growth : arrays, shape (sessions,)
        Of the path with the median Sharpe ratio: days since 1970 and net return since the start, a fraction. Empty
        where the trial ledger has no such track.
    """

    at: datetime
    report: GateReport
    days: NDArray[np.int64]
    growth: NDArray[np.float64]


@dataclass(frozen=True)
class Reference:
    """Where something about a strategy is shown.

    Attributes
    ----------
    words : str
    asset : str
        Address in the UI, from ``/``.
    page : str
        Name of the page beside this one; empty where there is none.
    """

    words: str
    asset: str
    page: str = ""


@dataclass(frozen=True)
class Told:
    """What is known of one strategy.

    Attributes
    ----------
    name, universe, book, description : str
    settings : mapping
        Plain JSON data: all that shapes a candidate of today's configuration.
    configuration : str
        Their digest, as ``configuration`` in the basis of a report says it.
    judged : tuple of Judged
        Every version of its validation report that can be read, oldest first.
    lost_versions : int
        Those that the event log names and the store no longer has.
    further : tuple of GateReport
        The newest report of each other kind.
    last_at, last_run : datetime or None, str
        When the newest of its assets was made, and in which run.
    shown : tuple of Reference
        Reports and what decides, those with a page first.
    """

    name: str
    universe: str
    book: str
    description: str
    settings: Mapping[str, Any]
    configuration: str
    judged: tuple[Judged, ...]
    lost_versions: int
    further: tuple[GateReport, ...]
    last_at: datetime | None
    last_run: str
    shown: tuple[Reference, ...]


@dataclass(frozen=True)
class Closed:
    """One reason for which a candidate does not serve, in full.

    Attributes
    ----------
    title, status : str
        Of the gate; of another reason its first words and ``fail``.
    reason, remedy : str
        The remedy is empty where nobody has said one.
    """

    title: str
    status: str
    reason: str
    remedy: str


# ------------------------------------------------------------------------------------------------ one strategy


def standing(told: Told, entries: Iterable[LedgerEntry], report: DeskReport) -> dict[str, Any]:
    """What the page shows of one strategy.

    Parameters
    ----------
    told : Told
    entries : iterable of LedgerEntry
        Of the promotion ledger, in order.
    report : DeskReport
        Has the trials of its book.
    """
    own = [entry for entry in entries if entry.strategy == told.name]
    moves = [entry for entry in own if entry.moves]
    newest = told.judged[-1].report if told.judged else None
    verdicts = _verdicts(told, newest)
    state, closed, decided = _decision(newest, verdicts, own)
    by_gate = {verdict.gate: verdict for verdict in verdicts}
    row = next((row for row in report.rows if row.strategy == told.name), None)
    sharpes = [_observed(judged.report, SHARPE_GATE) for judged in told.judged]
    return {
        "told": told,
        "pages": [reference for reference in told.shown if reference.page],
        "state": state,
        "state_class": STATE_CLASSES[state],
        "closed": closed,
        "decided": _moment(datetime.fromisoformat(decided.at)) if decided else "",
        "subject": newest.subject if newest else "",
        "sharpe": by_gate.get(SHARPE_GATE),
        "deflated": by_gate.get(DEFLATED_GATE),
        "bullet": bullet(by_gate[SHARPE_GATE], _path_sharpes(newest))
        if newest and SHARPE_GATE in by_gate
        else None,
        "champion": moves[-1] if moves else None,
        "champion_since": moves[-1].at[:10] if moves else "",
        "drift": _drift(told, newest),
        "last": _moment(told.last_at) if told.last_at else "",
        "trials": row.book_trials if row else None,
        "trends": [
            {"words": words, **spark}
            for words, gate in (("median Sharpe", SHARPE_GATE), ("DSR", DEFLATED_GATE))
            if (spark := sparkline([_observed(judged.report, gate) for judged in told.judged]))
        ],
        "order": (-(sharpes[-1] if sharpes and sharpes[-1] is not None else -math.inf), told.name),
    }


def _verdicts(told: Told, newest: GateReport | None) -> tuple[Verdict, ...]:
    """Every verdict about the newest candidate."""
    if newest is None:
        return ()
    reports = (newest, *(report for report in told.further if report.subject == newest.subject))
    return tuple(verdict for report in reports for verdict in report.verdicts)


def _decision(
    newest: GateReport | None, verdicts: Sequence[Verdict], own: Sequence[LedgerEntry]
) -> tuple[State, tuple[Closed, ...], LedgerEntry | None]:
    """Where the newest candidate stands, what keeps it from serving, and the entry that says so."""
    if newest is None:
        return "no candidate", (), None
    decisions = [e for e in own if e.subject == newest.subject and e.action != "shown"]
    decided = decisions[-1] if decisions else None
    moves = [entry for entry in own if entry.moves]
    if moves and moves[-1].subject == newest.subject and decided and decided.moves:
        return "in charge", (), decided
    if decided and decided.moves:
        return "promoted", (), decided
    reasons = decided.reasons if decided else closed_reasons(newest.subject, verdicts)
    closed = tuple(_closed(reason, verdicts) for reason in reasons)
    return ("refused" if decided else "gates closed" if closed else "gates open"), closed, decided


def _closed(reason: str, verdicts: Sequence[Verdict]) -> Closed:
    """A reason of the guard or of the ledger, with what the gate's verdict says would change it."""
    name, _, words = reason.partition(": ")
    if name not in gates():
        return Closed(name if words else "Beside the gates", "fail", words or reason, "")
    verdict = next((v for v in verdicts if v.gate == name), None)
    if verdict is None:
        return Closed(gate_title(name), "missing", words, "")
    status = words.partition(": ")[0]
    said = words.partition(": ")[2] if status == verdict.status else words
    return Closed(gate_title(name), verdict.status, said, verdict.remedy)


def _drift(told: Told, newest: GateReport | None) -> dict[str, str]:
    """What the newest drift report says, in a word and a sentence."""
    report = next((r for r in told.further if r.kind == "drift"), None)
    if report is None:
        return {"words": "not measured", "status": "not_applicable", "why": ""}
    worst = [v for v in report.verdicts if v.status not in ("pass", "not_applicable")]
    old = newest is not None and report.subject != newest.subject
    words = "drifted" if any(v.status == "fail" for v in worst) else "unsure" if worst else "none"
    status = "fail" if words == "drifted" else "underpowered" if worst else "pass"
    return {
        "words": words + (" (an earlier candidate)" if old else ""),
        "status": status,
        "why": "; ".join(f"{gate_title(v.gate)}: {v.reason}" for v in worst),
    }


def _observed(report: GateReport, gate: str) -> float | None:
    return next((v.observed for v in report.verdicts if v.gate == gate), None)


def _path_sharpes(report: GateReport) -> list[float]:
    return [row["sharpe_annual"] for row in report.details["paths"] if row["sharpe_annual"] is not None]


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


# ------------------------------------------------------------------------------------------------ small pictures

BULLET_WIDTH, SPARK_WIDTH, SPARK_HEIGHT = 200.0, 120.0, 26.0


def bullet(verdict: Verdict, paths: Sequence[float]) -> dict[str, Any] | None:
    """A bar from 0 to what was observed, a mark at what is required, a tick at each path: places from 0 to 200.

    None without an observed value.
    """
    if verdict.observed is None or verdict.required is None:
        return None
    shown = [0.0, verdict.observed, verdict.required, *paths]
    low, high = min(shown), max(shown)
    span = (high - low) or 1.0

    def place(value: float) -> float:
        return round(4.0 + (BULLET_WIDTH - 8.0) * (value - low) / span, 1)

    ends = sorted((place(0.0), place(verdict.observed)))
    return {
        "start": ends[0],
        "width": round(ends[1] - ends[0], 1),
        "zero": place(0.0),
        "required": place(verdict.required),
        "paths": [place(value) for value in paths],
        "met": verdict.status == "pass",
    }


def sparkline(values: Sequence[float | None]) -> dict[str, Any] | None:
    """A line over versions: points from 0 to 120 and from 0 to 26, y downwards. None without a value."""
    known = [(n, value) for n, value in enumerate(values) if value is not None]
    if not known:
        return None
    low, high = min(v for _, v in known), max(v for _, v in known)
    last = max(len(values) - 1, 1)
    points = [
        (
            round(4.0 + (SPARK_WIDTH - 8.0) * n / last, 1),
            round(4.0 + (SPARK_HEIGHT - 8.0) * ((high - value) / (high - low) if high > low else 0.5), 1),
        )
        for n, value in known
    ]
    return {
        "points": " ".join(f"{x},{y}" for x, y in points),
        "end": points[-1],
        "first": known[0][1],
        "latest": known[-1][1],
        "versions": len(values),
    }


# ------------------------------------------------------------------------------------------ side by side


def candidates(tolds: Iterable[Told], entries: Sequence[LedgerEntry]) -> list[dict[str, Any]]:
    """Each candidate that can be compared, as plain data: the newest of each strategy first."""
    found: list[tuple[int, str, dict[str, Any]]] = []
    for told in tolds:
        newest_first, subjects = list(reversed(told.judged)), set[str]()
        for judged in newest_first:
            if judged.report.subject in subjects or len(subjects) == MOST_COMPARED:
                continue  # the same model under more trials is one candidate, as it was judged last
            subjects.add(judged.report.subject)
            age = len(subjects) - 1
            found.append((age, told.name, _candidate(told, judged, age, entries)))
    return [candidate for _, _, candidate in sorted(found, key=lambda item: item[:2])]


def _candidate(told: Told, judged: Judged, age: int, entries: Sequence[LedgerEntry]) -> dict[str, Any]:
    report = judged.report
    about = [
        e for e in entries if (e.strategy, e.subject) == (told.name, report.subject) and e.action != "shown"
    ]
    further = [r for r in told.further if r.subject == report.subject]
    verdicts = [v for r in (report, *further) for v in r.verdicts]
    kept = np.unique(np.linspace(0, max(len(judged.days) - 1, 0), MOST_POINTS).round().astype(int))
    kept = kept[: len(judged.days)]
    sharpe = next((v for v in report.verdicts if v.gate == SHARPE_GATE), None)
    return {
        "label": f"{told.name}, {'newest' if age == 0 else f'{age} before'}, {_moment(judged.at)}",
        "strategy": told.name,
        "subject": report.subject[:12],
        "at": _moment(judged.at),
        "decision": about[-1].action.replace("_", " ") if about else "not decided",
        "sharpe": sharpe.observed if sharpe else None,
        "required": sharpe.required if sharpe else None,
        "sessions": report.details["n_sessions"],
        "trials": report.details["trials"]["n_trials"],
        "paths": _path_sharpes(report),
        "gates": {
            v.gate: {
                "title": gate_title(v.gate),
                "status": v.status,
                "words": STATUS_WORDS[v.status],
                "observed": gate_number(v.gate, v.observed, compact),
                "required": f"{'≥' if v.comparison == '>=' else '≤'} {gate_number(v.gate, v.required, limit)}",
            }
            for v in verdicts
        },
        "settings": _settings(told, report),
        "days": judged.days[kept].tolist(),
        "growth": [round(value, 4) for value in judged.growth[kept].tolist()],
    }


def _settings(told: Told, report: GateReport) -> dict[str, str]:
    """What a candidate was made under, by dotted name: in full where it is today's, else as recorded."""
    recorded = {name: part for name, part in report.basis.items() if name != "configuration"}
    digest = report.basis.get("configuration")
    known = told.settings if digest == told.configuration else recorded
    whole = {"digest of all settings": (digest or "not recorded")[:12]}
    return {**_flat(known), **whole, "strategy": told.name}


def _flat(value: Any, name: str = "") -> dict[str, str]:
    if isinstance(value, Mapping) and value:
        return {
            found: text
            for key, item in value.items()
            for found, text in _flat(item, f"{name}.{key}" if name else str(key)).items()
        }
    if isinstance(value, list | tuple):
        return {name: ", ".join(str(item) for item in value) or "none"}
    return {name: "none" if value is None or value == {} else str(value)}


# ----------------------------------------------------------------------------------------------------- the page


def render_desk_page(
    tolds: Sequence[Told], report: DeskReport, entries: Sequence[LedgerEntry], *, statistics: str, ui: str
) -> str:
    """The page as HTML text: self-contained, everything escaped, the same records give the same bytes.

    Parameters
    ----------
    tolds : sequence of Told
        Every configured strategy.
    report : DeskReport
    entries : sequence of LedgerEntry
        The promotion ledger.
    statistics : str
        Name of the page of all trials, beside this one.
    ui : str
        Address of the UI for a reader who opened the page as a file.
    """
    rows = sorted((standing(told, entries, report) for told in tolds), key=lambda row: row["order"])
    runs = [told.last_at for told in tolds if told.last_at]
    return (
        page_environment(Path(__file__).parent)
        .get_template("desk_page.html.j2")
        .render(
            rows=rows,
            report=report,
            candidates=candidates(tolds, entries),
            statistics=statistics,
            ui=ui,
            last=_moment(max(runs)) if runs else "",
            script=SCRIPT,
            script_source=script_source(SCRIPT),
            status_words=STATUS_WORDS,
        )
    )
