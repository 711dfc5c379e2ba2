"""Two models side by side, and what is shown of one: tables for a terminal, records for a file."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from quant_assets.artifacts.bundle.archive import GRAPH, SBOM
from quant_assets.artifacts.bundle.bundle import Bundle
from quant_assets.artifacts.onnx.parity import rank_correlation
from quant_assets.artifacts.onnx.scoring import open_session, score
from quant_assets.cli.terminal import out, plain, table_of
from quant_assets.gates.verdicts import GateReport

_MAX_ROWS = 100_000


@dataclass(frozen=True)
class ModelView:
    """A verified model with what is known about it here.

    Attributes
    ----------
    label : str
    bundle : Bundle
    archive_bytes : int
    sha256 : str
        Of the archive.
    source : mapping of str to str
        Where it came from.
    reports : tuple of GateReport
        About exactly this version; empty where this home has none.
    """

    label: str
    bundle: Bundle
    archive_bytes: int
    sha256: str
    source: Mapping[str, str]
    reports: tuple[GateReport, ...]

    def metrics(self) -> dict[str, float]:
        """Statistics over the backtest paths, by name: ``sharpe.median`` and so on."""
        return {
            f"{name}.{how}": float(value)
            for report in self.reports
            for name, summary in (report.details.get("aggregated") or {}).items()
            for how, value in (summary or {}).items()
            if value is not None
        }

    def verdicts(self) -> dict[str, str]:
        """Status by gate, with what was observed."""
        return {
            v.gate: v.status if v.observed is None else f"{v.status} ({v.observed:.4g})"
            for report in self.reports
            for v in report.verdicts
        }

    def versions(self) -> dict[str, str]:
        """Versions of everything upstream."""
        return {k: v for k, v in self.bundle.manifest.upstream.items() if is_version(v)}

    def facts(self) -> dict[str, str]:
        """What else the training set says about itself (rows, sessions, horizon)."""
        upstream = self.bundle.manifest.upstream
        return {k: v for k, v in upstream.items() if not is_version(v) and k != "features"}

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        manifest = self.bundle.manifest
        return {
            "label": self.label,
            "strategy": manifest.strategy,
            "subject": manifest.subject,
            "recipe": manifest.recipe,
            "source": dict(self.source),
            "bundle_sha256": self.sha256,
            "bytes": self.archive_bytes,
            "signing_key": self.bundle.fingerprint,
            "features": list(manifest.feature_names),
            "files": {name: len(data) for name, data in sorted(self.bundle.files.items())},
            "file_sha256": dict(manifest.files),
            "upstream": dict(manifest.upstream),
            "metrics": self.metrics(),
            "verdicts": [asdict(v) for report in self.reports for v in report.verdicts],
        }


@dataclass(frozen=True)
class Agreement:
    """How two models score the same rows.

    Attributes
    ----------
    rows : int
        Rows with finite scores of both.
    rank_correlation : float or None
        Spearman's; None when one side is constant.
    flipped_sign : int
        Rows that one would buy and the other sell (score above zero).
    flipped_half : int
        Rows in the upper half of one model's scores and the lower half of the other's.
    """

    rows: int
    rank_correlation: float | None
    flipped_sign: int
    flipped_half: int


@dataclass(frozen=True)
class Difference:
    """One line of a comparison. ``kind`` groups lines: model, features, metric, verdict, upstream, library."""

    kind: str
    name: str
    a: str
    b: str

    @property
    def same(self) -> bool:
        """Whether both sides say the same."""
        return self.a == self.b

    @property
    def change(self) -> str:
        """b - a, where both are numbers that were measured."""
        if self.kind != "metric" or "-" in (self.a, self.b):
            return ""
        return f"{float(self.b) - float(self.a):+.4g}"


@dataclass(frozen=True)
class Comparison:
    """Two models, every line of their comparison, and how they agree (or why that was not measured)."""

    a: ModelView
    b: ModelView
    lines: tuple[Difference, ...]
    agreement: Agreement | None
    not_measured: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "a": self.a.to_json(),
            "b": self.b.to_json(),
            "lines": [{**asdict(line), "same": line.same} for line in self.lines],
            "agreement": asdict(self.agreement) if self.agreement else None,
            "not_measured": self.not_measured or None,
        }


def is_version(value: str) -> bool:
    """Whether a value of the manifest is a digest, and not another fact."""
    return len(value) >= 40 and all(c in "0123456789abcdef" for c in value)


def compare_models(a: ModelView, b: ModelView, rows: pl.DataFrame | None) -> Comparison:
    """Compare two verified models.

    Parameters
    ----------
    a, b : ModelView
    rows : polars.DataFrame or None
        Training set of `a`; None where it is not at hand.
    """
    agreement, why = None, "the training set of the first model is not in this home"
    if rows is not None:
        missing = sorted(set(b.bundle.manifest.feature_names) - set(rows.columns))
        why = f"the first model's training set has no {', '.join(missing[:3])}" if missing else ""
        agreement = None if missing else agreement_of(a.bundle, b.bundle, rows)
    return Comparison(a, b, tuple(_lines(a, b)), agreement, why)


def agreement_of(a: Bundle, b: Bundle, rows: pl.DataFrame) -> Agreement:
    """Score the same rows with the graphs of two bundles, thinned evenly to at most 100,000 rows."""
    thinned = rows.gather_every(max(1, -(-rows.height // _MAX_ROWS)))

    def scores(bundle: Bundle) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        features = thinned.select(pl.col(n).cast(pl.Float32) for n in bundle.manifest.feature_names)
        return score(open_session(bundle.files[GRAPH]), features.to_numpy())

    left, right = scores(a), scores(b)
    finite = np.isfinite(left) & np.isfinite(right)
    left, right = left[finite], right[finite]
    correlation = rank_correlation(left, right)
    halves = (left > np.median(left)) != (right > np.median(right)) if len(left) else np.zeros(0)
    return Agreement(
        int(finite.sum()),
        None if math.isnan(correlation) else correlation,
        int(((left > 0) != (right > 0)).sum()),
        int(halves.sum()),
    )


def _lines(a: ModelView, b: ModelView) -> Iterator[Difference]:
    left, right = a.bundle.manifest, b.bundle.manifest
    for name, x, y in (
        ("strategy", left.strategy, right.strategy),
        ("subject", left.subject, right.subject),
        ("recipe", left.recipe, right.recipe),
        ("signing key", str(a.bundle.fingerprint), str(b.bundle.fingerprint)),
        ("bundle bytes", str(a.archive_bytes), str(b.archive_bytes)),
    ):
        yield Difference("model", name, x, y)
    yield from _paired("model", _sizes(a), _sizes(b))
    yield Difference("features", "number", str(len(left.feature_names)), str(len(right.feature_names)))
    for only, other, side in ((left, right, "a"), (right, left, "b")):
        extra = [n for n in only.feature_names if n not in other.feature_names]
        if extra:
            names = ", ".join(extra)
            yield Difference("features", f"only in {side}", *((names, "") if side == "a" else ("", names)))
    if set(left.feature_names) == set(right.feature_names) and left.feature_names != right.feature_names:
        yield Difference("features", "order", ", ".join(left.feature_names), ", ".join(right.feature_names))
    yield from _paired("metric", _shown(a.metrics()), _shown(b.metrics()))
    yield from _paired("verdict", a.verdicts(), b.verdicts())
    yield from _paired("upstream", a.versions() | a.facts(), b.versions() | b.facts())
    for line in _paired("library", _libraries(a.bundle), _libraries(b.bundle)):
        if not line.same:
            yield line


def _paired(kind: str, a: Mapping[str, str], b: Mapping[str, str]) -> Iterator[Difference]:
    for name in dict.fromkeys([*a, *b]):
        yield Difference(kind, name, a.get(name, "-"), b.get(name, "-"))


def _sizes(view: ModelView) -> dict[str, str]:
    return {f"{name} bytes": str(len(view.bundle.files[name])) for name in sorted(view.bundle.manifest.files)}


def _shown(metrics: Mapping[str, float]) -> dict[str, str]:
    return {name: f"{value:.6g}" for name, value in metrics.items()}


def _libraries(bundle: Bundle) -> dict[str, str]:
    return {c["name"]: c["version"] for c in json.loads(bundle.files[SBOM])["components"]}


# --------------------------------------------------------------------------------------- models on a terminal


_HOW = ("median", "mean", "minimum", "maximum")


def show_view(view: ModelView) -> None:
    """Facts, files, versions, verdicts and metrics of one model."""
    console, manifest = out(), view.bundle.manifest
    table = table_of(view.label, ("fact", "value"), overflow="fold")
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
    console.print(table)
    for title, columns, rows in (
        ("Files", ("file", "sha256", "bytes"), [
            (n, d, str(len(view.bundle.files[n]))) for n, d in sorted(manifest.files.items())
        ]),
        ("Made from", ("asset", "version"), sorted(view.versions().items())),
        ("Verdicts", ("gate", "status"), list(view.verdicts().items())),
        ("Metrics over the backtest paths", ("metric", *_HOW), _by_metric(view.metrics())),
    ):  # fmt: skip
        part = table_of(title, columns, overflow="fold")
        for row in rows or [("none about this version here", *[""] * (len(columns) - 1))]:
            part.add_row(*map(plain, row))
        console.print(part)


def _by_metric(metrics: Mapping[str, float]) -> list[tuple[str, ...]]:
    names = dict.fromkeys(name.rpartition(".")[0] for name in sorted(metrics))
    values = {name: [metrics.get(f"{name}.{how}") for how in _HOW] for name in names}
    return [(n, *("-" if v is None else f"{v:.6g}" for v in row)) for n, row in values.items()]


def _short(value: str) -> str:
    return value[:12] if is_version(value) else value


def show_comparison(comparison: Comparison, *, everything: bool) -> None:
    """The lines that differ (or all), and how the scores agree."""
    console = out()
    columns = ("", "", f"A: {comparison.a.label}", f"B: {comparison.b.label}", "B - A")
    table = table_of("Comparison", columns, overflow="fold")
    kind = ""
    for line in comparison.lines:
        detail = line.kind == "metric" and not line.name.endswith(".median")
        if everything or not (line.same or detail):
            cells = (line.kind if line.kind != kind else "", line.name, _short(line.a), _short(line.b))
            table.add_row(*map(plain, cells), line.change, style="dim" if line.same else None)
            kind = line.kind
    console.print(table)
    equal = sum(line.same for line in comparison.lines)
    rest = "" if everything else " (--all shows them, and every metric)"
    console.print(f"{equal} of {len(comparison.lines)} lines are equal{rest}")
    agreement = comparison.agreement
    if agreement is None:
        console.print(f"[yellow]scores not compared[/]: {comparison.not_measured}")
        return
    correlation = "undefined (constant scores)"
    if agreement.rank_correlation is not None:
        correlation = f"{agreement.rank_correlation:.6f}"
    console.print(
        f"scores on {agreement.rows} rows: rank correlation {correlation}, {agreement.flipped_sign} flipped "
        f"between long and short, {agreement.flipped_half} between upper and lower half"
    )
