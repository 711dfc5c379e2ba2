"""A refusal as a result: what people are shown of it, on the asset that decided."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from quant_assets.common.errors import GateClosedError
from quant_assets.gates.verdicts import GateReport
from quant_assets.lineage.declaring import Markdown

# The fact of a refusal that holds every closed gate.
CLOSED_GATES = "closed gates"


@contextmanager
def refusals_told(reports: Sequence[GateReport]) -> Iterator[None]:
    """Let a refusal that leaves the block carry every closed gate, with its reason and remedy in full."""
    try:
        yield
    except GateClosedError as refusal:
        table = closed_gates(refusal.reasons, reports)
        refusal.facts = {
            "decision": "refused",
            CLOSED_GATES: Markdown(table),
            "what to do": refusal.action,
            **refusal.facts,
        }
        raise


def closed_gates(reasons: Sequence[str], reports: Sequence[GateReport]) -> str:
    """A Markdown table of everything that closes the way: what, why, and what would open it."""
    verdicts = {verdict.gate: (verdict, report) for report in reports for verdict in report.verdicts}
    rows = ["| closed by | why | what would open it |", "| --- | --- | --- |"]
    for reason in reasons:
        what, _, why = reason.partition(": ")
        found = verdicts.get(what)
        remedy = "materialise again what it names"
        if found is not None:
            verdict, report = found
            what, why, remedy = f"`{what}` ({report.kind})", verdict.reason, verdict.remedy
        rows.append("| " + " | ".join(_cell(text) for text in (what, why, remedy)) + " |")
    return "\n".join(rows)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
