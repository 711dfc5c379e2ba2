"""What a lab shows of an outcome: figures, plots and verdicts, each with the number of trials behind it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Any

import numpy as np
import polars as pl

from quant_assets.common.errors import ValidationError
from quant_assets.common.store import Table
from quant_assets.gates.verdicts import GateReport, Verdict
from quant_assets.statistics.sharpe_inference import SharpeDifference, sharpe_difference
from quant_assets.trading.path_figures import PathStatistics
from quant_assets.trading.paths import median_path, path_statistics

_FIGURES: Mapping[str, tuple[str, str]] = {
    "net Sharpe ratio, a year": ("sharpe_annual", "{:.2f}"),
    "before costs": ("gross_sharpe_annual", "{:.2f}"),
    "at twice the costs": ("sharpe_annual_at_twice_costs", "{:.2f}"),
    "PSR against 0": ("psr", "{:.3f}"),
    "return, a year": ("annual_return_fraction", "{:.1%}"),
    "volatility, a year": ("annual_volatility_fraction", "{:.1%}"),
    "deepest drawdown": ("drawdown_fraction", "{:.1%}"),
    "turnover, a session": ("turnover_per_session", "{:.1%}"),
}


@dataclass(frozen=True)
class Trials:
    """How many looks at outcomes stand behind a figure.

    Attributes
    ----------
    book : str
        Where they count: universe and label family.
    counted : int
        Distinct ideas in it, this one included.
    since : str
        Day of the first.
    """

    book: str
    counted: int
    since: str

    def __str__(self) -> str:
        return f"trial {self.counted} of {self.book}, counted since {self.since}"


@dataclass(frozen=True, repr=False)
class Backtest:
    """Net-of-cost returns of every path of one configuration.

    Attributes
    ----------
    strategy : str
    changes : mapping of str to Any
        What differs from the strategy's file, by dotted key.
    configuration : mapping
        The whole strategy as it was judged.
    paths : Table
        ``path, session, net_return, gross_return, turnover`` and the costs, one row a path and session.
    periods_per_year : float
    trials : Trials
    """

    strategy: str
    changes: Mapping[str, Any]
    configuration: Mapping[str, Any]
    paths: Table
    periods_per_year: float
    trials: Trials

    @cached_property
    def statistics(self) -> tuple[PathStatistics, ...]:
        """Figures of each path."""
        return path_statistics(self.paths.frame, self.periods_per_year)

    @property
    def median(self) -> PathStatistics:
        """Figures of the path with the median Sharpe ratio, which gates read."""
        return median_path(self.statistics)

    @property
    def table(self) -> pl.DataFrame:
        """Figures of each path, one row a path."""
        from quant_assets.gates.evidence import statistics_table

        return statistics_table(self.paths, self.periods_per_year)

    @property
    def returns(self) -> pl.DataFrame:
        """Net returns, one column a path: ``session, path_0, ...``, as fractions of capital."""
        wide = self.paths.frame.pivot(on="path", index="session", values="net_return").sort("session")
        return wide.rename({c: f"path_{c}" for c in wide.columns if c != "session"})

    @property
    def equity(self) -> str:
        """Net equity of each path as a PNG, a ``data:`` address."""
        from quant_assets.gates.evidence import equity_plot

        return equity_plot(self.paths)

    @property
    def name(self) -> str:
        """The strategy, and what was changed."""
        changed = ", ".join(f"{key} = {value}" for key, value in self.changes.items())
        return f"{self.strategy} with {changed}" if changed else self.strategy

    def figures(self) -> dict[str, str]:
        """Figures of the median path, by title, as people read them."""
        return {title: _shown(getattr(self.median, key), form) for title, (key, form) in _FIGURES.items()}

    def __repr__(self) -> str:
        shown = "\n".join(f"  {title}: {value}" for title, value in self.figures().items())
        spread = [s.sharpe_annual for s in self.statistics]
        return (
            f"{self.name}\nmedian of {len(spread)} paths (Sharpe ratios {min(spread):.2f} to {max(spread):.2f}), "
            f"{self.median.n_sessions} sessions\n{shown}\n{self.trials}"
        )

    def _repr_html_(self) -> str:
        text, rows = self.__repr__().splitlines(), self.figures().items()
        cells = "".join(f"<tr><td>{escape(t)}</td><td>{escape(v)}</td></tr>" for t, v in rows)
        return (
            f"<b>{escape(text[0])}</b><br>{escape(text[1])}<table>{cells}</table>"
            f'<img src="{self.equity}" alt="net equity of each path" style="max-width:100%">'
            f"<p>{escape(str(self.trials))}</p>"
        )


def _shown(value: float, form: str) -> str:
    return form.format(value) if np.isfinite(value) else "none"


@dataclass(frozen=True, repr=False)
class Verdicts:
    """What the gates say of one configuration.

    Attributes
    ----------
    backtest : Backtest
        The evidence.
    reports : tuple of GateReport
    """

    backtest: Backtest
    reports: tuple[GateReport, ...]

    def __iter__(self) -> Iterator[Verdict]:
        return (verdict for report in self.reports for verdict in report.verdicts)

    def __getitem__(self, gate: str) -> Verdict:
        for verdict in self:
            if verdict.gate == gate:
                return verdict
        raise KeyError(f"{gate}: these gates were judged: {', '.join(v.gate for v in self)}")

    @property
    def passed(self) -> bool:
        """Whether every gate that was judged is open. Those of artifacts and drift are judged by ``gates="all"``."""
        return all(v.status in ("pass", "not_applicable") for v in self)

    @property
    def table(self) -> pl.DataFrame:
        """One row a gate: status, observed, required, reason and remedy."""
        from quant_assets.gates.evidence import verdict_table

        return pl.concat([verdict_table(report) for report in self.reports])

    @property
    def sentence(self) -> str:
        """Which gates are closed."""
        closed = [v.gate for v in self if v.status not in ("pass", "not_applicable")]
        judged = sum(1 for _ in self)
        return (
            f"{len(closed)} of {judged} gates closed: {', '.join(closed)}"
            if closed
            else f"all {judged} gates open"
        )

    def __repr__(self) -> str:
        lines = [f"  {v.status:>14}  {v.gate}: {v.reason}" for v in self]
        return "\n".join([f"{self.backtest.name}: {self.sentence}", *lines, str(self.backtest.trials)])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(v.status)}</td><td>{escape(v.gate)}</td><td style='text-align:left'>{escape(v.reason)}"
            f"</td><td style='text-align:left'>{escape(v.remedy)}</td></tr>"
            for v in self
        )
        return (
            f"<b>{escape(self.backtest.name)}: {escape(self.sentence)}</b>"
            f"<table><tr><th>verdict</th><th>gate</th><th>reason</th><th>what would open it</th></tr>{rows}</table>"
            f"<p>{escape(str(self.backtest.trials))}</p>"
        )


@dataclass(frozen=True, repr=False)
class Comparison:
    """Two configurations side by side, over the sessions that both have.

    Attributes
    ----------
    a, b : Backtest
    configuration : mapping of str to (Any, Any)
        Keys in which the two strategies differ, and both values.
    difference : SharpeDifference
        Of the Sharpe ratios of the paths' mean returns, ``a - b``, per session (Ledoit and Wolf 2008).
    """

    a: Backtest
    b: Backtest
    configuration: Mapping[str, tuple[Any, Any]]
    difference: SharpeDifference

    @property
    def two_sided_p_value(self) -> float:
        """Probability of a difference at least this large, either way, when the true Sharpe ratios are equal.

        The two were looked at by choice: it knows nothing of how many others were tried.
        """
        return 2.0 * min(self.difference.p_value, 1.0 - self.difference.p_value)

    @property
    def table(self) -> pl.DataFrame:
        """Figures of both median paths, one row a figure."""
        left, right = self.a.figures(), self.b.figures()
        return pl.DataFrame(
            {"figure": list(left), "a": list(left.values()), "b": [right[title] for title in left]}
        )

    @property
    def equity(self) -> str:
        """Net equity of both, each the mean of its paths, as a PNG: a ``data:`` address."""
        from quant_assets.common.pages import ACCENT, WARN, figure_png, new_figure, png_data_uri

        figure, axes = new_figure(7.0, 2.8)
        for letter, one, color in (("a", self.a, ACCENT), ("b", self.b, WARN)):
            returns = _mean_of_paths(one)
            grown = (1.0 + returns["net"]).cum_prod().to_numpy()
            axes.plot(returns["session"].to_numpy(), grown, color=color, linewidth=1.2, label=letter)
        axes.axhline(1.0, linewidth=0.8)
        axes.set_ylabel("equity, net of costs")
        axes.legend(frameon=False)
        return png_data_uri(figure_png(figure, dpi=110))

    @property
    def sentence(self) -> str:
        """The difference in words."""
        annual = self.difference.difference * float(np.sqrt(self.a.periods_per_year))
        p = self.two_sided_p_value
        told = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
        return (
            f"Sharpe ratio of a minus b: {annual:+.2f} a year over {self.difference.n_periods} common sessions, "
            f"{told} (two-sided, of these two alone)"
        )

    def __repr__(self) -> str:
        changed = [f"  {key}: {left} | {right}" for key, (left, right) in self.configuration.items()]
        rows = [f"  {title}: {a} | {b}" for title, a, b in self.table.iter_rows()]
        return "\n".join(
            [f"a: {self.a.name}", f"b: {self.b.name}", *changed, *rows, self.sentence, str(self.b.trials)]
        )

    def _repr_html_(self) -> str:
        rows = [("", self.a.name, self.b.name)]
        rows += [(key, str(left), str(right)) for key, (left, right) in self.configuration.items()]
        rows += list(self.table.iter_rows())
        cells = "".join(f"<tr>{''.join(f'<td>{escape(c)}</td>' for c in row)}</tr>" for row in rows)
        plots = f'<img src="{self.equity}" alt="net equity of a and b" style="max-width:100%">'
        said = f"{escape(self.sentence)}<br>{escape(str(self.b.trials))}"
        return f"<table>{cells}</table>{plots}<p>{said}</p>"


def _mean_of_paths(one: Backtest) -> pl.DataFrame:
    return one.returns.select("session", net=pl.mean_horizontal(pl.exclude("session")))


def compared(a: Backtest, b: Backtest) -> Comparison:
    """Two backtests side by side.

    Raises
    ------
    ValidationError
        When they have fewer than 60 sessions in common.
    """
    left, right = _mean_of_paths(a), _mean_of_paths(b)
    both = left.join(right, on="session", how="inner", suffix="_b").sort("session")
    if both.is_empty():
        raise ValidationError(
            f"{a.name} and {b.name}",
            expected="sessions that both traded",
            found="none",
            action="compare strategies of the same years and calendar",
        )
    differs = {
        key: (flat_a.get(key), flat_b.get(key))
        for flat_a, flat_b in [(flat(a.configuration), flat(b.configuration))]
        for key in {**flat_a, **flat_b}
        if flat_a.get(key) != flat_b.get(key) and key not in ("name", "description", "owner")
    }
    return Comparison(a, b, differs, sharpe_difference(both["net"].to_numpy(), both["net_b"].to_numpy()))


def flat(configuration: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """A configuration by dotted keys."""
    found: dict[str, Any] = {}
    for key, value in configuration.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{before}{key}.")
        else:
            found[f"{before}{key}"] = value
    return found
