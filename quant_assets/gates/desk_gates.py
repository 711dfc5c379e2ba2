"""A desk's own gates and checks: what they are shown, what they may say, and what becomes of it.

They can close and never open. The platform's gates are judged first and without them. Then each of the desk's
is asked in a process of its own (`quant_assets.gates.apart`), with copies of the numbers. All that comes back
is a number and a limit, and the verdict is written here, under a name that no gate of the platform can have.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from quant_assets.common.plugins import Plugin
from quant_assets.gates.verdicts import Comparison, GateReport, Verdict, judge

if TYPE_CHECKING:
    import polars as pl

    from quant_assets.trading.path_figures import PathStatistics

PREFIX = "desk_"
_WORDS = 300  # of what a gate says, characters


@dataclass(frozen=True)
class Finding:
    """What a desk's own gate or check found: a number and its limit. Passed iff ``observed comparison limit``.

    Attributes
    ----------
    observed, limit : float
        In the unit of ``quantity``. One that is not finite closes.
    comparison : {">=", "<="}
    quantity : str
        What is observed, in words and with its unit.
    remedy : str
        What would open it.
    """

    observed: float
    limit: float
    comparison: Comparison
    quantity: str
    remedy: str = ""


def at_least(observed: float, limit: float, quantity: str, remedy: str = "") -> Finding:
    """A finding that passes iff ``observed >= limit``."""
    return Finding(observed, limit, ">=", quantity, remedy)


def at_most(observed: float, limit: float, quantity: str, remedy: str = "") -> Finding:
    """A finding that passes iff ``observed <= limit``."""
    return Finding(observed, limit, "<=", quantity, remedy)


@dataclass(frozen=True, eq=False)
class TrackRecord:
    """What a desk's own gate is shown of a candidate: a copy.

    Attributes
    ----------
    strategy : str
    paths : polars.DataFrame
        ``path, session, gross_return, .., net_return, turnover``, as `quant_assets.trading.portfolio.simulate` gives.
    statistics : tuple of PathStatistics
        Of every path.
    median : PathStatistics
        Of the path with the median Sharpe ratio.
    periods_per_year : float
    n_trials : int
        In the book of trials.
    verdicts : mapping of str to str
        Status of each of the platform's gates in this report.
    """

    strategy: str
    paths: "pl.DataFrame"
    statistics: "tuple[PathStatistics, ...]"
    median: "PathStatistics"
    periods_per_year: float
    n_trials: int
    verdicts: Mapping[str, str]

    @classmethod
    def of(cls, paths: "pl.DataFrame", told: Mapping[str, Any]) -> "TrackRecord":
        """The record of some path returns.

        Parameters
        ----------
        paths : polars.DataFrame
        told : mapping
            As `told_of` gives.
        """
        from quant_assets.trading.path_figures import PathStatistics

        rows: list[dict[str, Any]] = [
            {name: math.nan if value is None else value for name, value in row.items()}
            for row in told["paths"]
        ]
        statistics = tuple(PathStatistics(**row) for row in rows)
        return cls(
            strategy=told["strategy"],
            paths=paths,
            statistics=statistics,
            median=next(path for path in statistics if path.path == told["median_path"]),
            periods_per_year=told["periods_per_year"],
            n_trials=told["n_trials"],
            verdicts=dict(told["verdicts"]),
        )


def told_of(strategy: str, report: GateReport) -> dict[str, Any]:
    """What a gate is told beside the paths, as plain data."""
    return {
        "strategy": strategy,
        "periods_per_year": report.details["periods_per_year"],
        "paths": report.details["paths"],
        "median_path": report.details["median_path"],
        "n_trials": report.details["trials"]["n_trials"],
        "verdicts": {verdict.gate: verdict.status for verdict in report.verdicts},
    }


def desk_name(plugin: Plugin) -> str:
    """Name of the verdict and of the check of a desk's own gate: ``desk_`` and that of its object."""
    return PREFIX + re.sub(r"\W", "_", plugin.use.rpartition(":")[2])


def desk_names(plugins: Sequence[Plugin]) -> tuple[str, ...]:
    """Names of several, in order."""
    return tuple(desk_name(plugin) for plugin in plugins)


def desk_titles(plugins: Sequence[Plugin]) -> dict[str, str]:
    """What each is, in one clause for people, by name."""
    return {desk_name(plugin): f"the desk's own gate {plugin.use}" for plugin in plugins}


def in_identity(plugins: Sequence[Plugin]) -> list[dict[str, Any]]:
    """What tells one set of a desk's gates from another: references, options, and the code behind each."""
    return [
        {"gate": desk_name(p), "use": p.use, "options": dict(p.options), "code": p.digest} for p in plugins
    ]


def desk_verdict(plugin: Plugin, subject: str, found: Finding | str) -> Verdict:
    """The verdict of a finding, or of why there is none, which is a closed gate.

    Parameters
    ----------
    found : Finding or str
        As `quant_assets.gates.apart.asked_apart` gives.
    """
    name = desk_name(plugin)
    if isinstance(found, Finding) and math.isfinite(found.limit):
        return judge(
            name,
            subject,
            found.observed,
            found.limit,
            quantity=one_line(found.quantity),
            remedy=one_line(found.remedy) or f"what {plugin.use} asks for",
            comparison=found.comparison,
        )
    why = found if isinstance(found, str) else f"its limit is {found.limit}"
    return Verdict(
        gate=name,
        subject=subject,
        status="fail",
        observed=None,
        required=None,
        comparison=">=",
        reason=f"{plugin.use} gave no finding: {one_line(why)}",
        remedy="correct the gate; quant_assets.testing.GateContract tests it",
    )


def one_line(text: str) -> str:
    """A text of somebody else's in one line, cut, without the addresses of objects, which differ each time."""
    plain = re.sub(r"0x[0-9a-fA-F]+", "0x..", " ".join(text.split()))
    return plain if len(plain) <= _WORDS else f"{plain[: _WORDS - 3]}..."
