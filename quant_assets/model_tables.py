"""Models on a terminal: the tables of ``quant-assets model``."""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from quant_assets.model_compare import Comparison, ModelView

_HOW = ("median", "mean", "minimum", "maximum")


def show_view(view: "ModelView") -> None:
    """Facts, files, versions, verdicts and metrics of one model."""
    out, manifest = console(), view.bundle.manifest
    table = table_of(view.label, ("fact", "value"))
    facts = {
        "strategy": manifest.strategy,
        "subject": manifest.subject,
        "recipe": manifest.recipe,
        **view.source,
        "bundle sha256": view.sha256,
        "bundle bytes": str(view.archive_bytes),
        "signed by key": str(view.bundle.fingerprint),
        f"{len(manifest.feature_names)} inputs (float32)": ", ".join(manifest.feature_names),
        **view.facts(),
    }
    for name, value in facts.items():
        table.add_row(name, plain(value))
    out.print(table)
    for title, columns, rows in (
        ("Files", ("file", "sha256", "bytes"), [
            (n, d, str(len(view.bundle.files[n]))) for n, d in sorted(manifest.files.items())
        ]),
        ("Made from", ("asset", "version"), sorted(view.versions().items())),
        ("Verdicts", ("gate", "status"), list(view.verdicts().items())),
        ("Metrics over the backtest paths", ("metric", *_HOW), _by_metric(view.metrics())),
    ):  # fmt: skip
        part = table_of(title, columns)
        for row in rows or [("none about this version here", *[""] * (len(columns) - 1))]:
            part.add_row(*map(plain, row))
        out.print(part)


def _by_metric(metrics: "Mapping[str, float]") -> list[tuple[str, ...]]:
    names = dict.fromkeys(name.rpartition(".")[0] for name in sorted(metrics))
    values = {name: [metrics.get(f"{name}.{how}") for how in _HOW] for name in names}
    return [(n, *("-" if v is None else f"{v:.6g}" for v in row)) for n, row in values.items()]


def _short(value: str) -> str:
    from quant_assets.model_compare import is_version

    return value[:12] if is_version(value) else value


def show_comparison(comparison: "Comparison", *, everything: bool) -> None:
    """The lines that differ (or all), and how the scores agree."""
    out = console()
    table = table_of("Comparison", ("", "", f"A: {comparison.a.label}", f"B: {comparison.b.label}", "B - A"))
    kind = ""
    for line in comparison.lines:
        detail = line.kind == "metric" and not line.name.endswith(".median")
        if everything or not (line.same or detail):
            cells = (line.kind if line.kind != kind else "", line.name, _short(line.a), _short(line.b))
            table.add_row(*map(plain, cells), line.change, style="dim" if line.same else None)
            kind = line.kind
    out.print(table)
    equal = sum(line.same for line in comparison.lines)
    rest = "" if everything else " (--all shows them, and every metric)"
    out.print(f"{equal} of {len(comparison.lines)} lines are equal{rest}")
    agreement = comparison.agreement
    if agreement is None:
        out.print(f"[yellow]scores not compared[/]: {comparison.not_measured}")
        return
    correlation = "undefined (constant scores)"
    if agreement.rank_correlation is not None:
        correlation = f"{agreement.rank_correlation:.6f}"
    out.print(
        f"scores on {agreement.rows} rows: rank correlation {correlation}, {agreement.flipped_sign} flipped "
        f"between long and short, {agreement.flipped_half} between upper and lower half"
    )


def console() -> "Console":
    """Standard output; into a file or a pipe a table has as much room as it needs."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)


def table_of(title: str, columns: tuple[str, ...]) -> Any:
    """An empty table."""
    from rich.table import Table

    table = Table(title=plain(title), title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(plain(column), overflow="fold")
    return table


def plain(text: str) -> str:
    """Text that the console prints as it is."""
    from rich.markup import escape

    return escape(text)
