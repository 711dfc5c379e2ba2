"""Level 2: the gates on seeded synthetic markets, through the whole pipeline.

Each market is generated, its features and labels are computed, its models fitted inside every purged split, its paths
traded at costs, its trial counted and judged. The same predictions are also judged at no costs: costs push noise far
below a Sharpe ratio of 0, which would make any gate look better than it is.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Protocol

import numpy as np

from quant_assets.common.errors import ValidationError
from quant_assets.common.settings import (
    Edge,
    LightGBMConfig,
    ModelsConfig,
    StackerConfig,
    StrategyConfig,
    SyntheticSource,
    UniverseConfig,
)
from quant_assets.gates.admission import closed_reasons
from quant_assets.gates.gate import gate_names
from quant_assets.gates.limits import GatesConfig
from quant_assets.gates.verdicts import GateReport
from quant_assets.statistics.rates import Rate

HALF_LIFE_SESSIONS = 5.0

# One learner of 40 trees, two inner folds: a quarter of the shipped ensemble's time, the same path through the code.
STRATEGY = StrategyConfig(
    name="calibration",
    universe="calibration",
    models=ModelsConfig(
        lightgbm=LightGBMConfig(n_estimators=40), xgboost=None, stacker=StackerConfig(inner_folds=2)
    ),
)


@dataclass(frozen=True)
class MarketSize:
    """Symbols and dates of each market."""

    n_symbols: int
    start: date
    end: date


@dataclass(frozen=True)
class MarketBatch:
    """Markets of one kind.

    Attributes
    ----------
    transient_sd : float
        Size of the planted edge (log price units); 0 is noise.
    n_markets : int
    size : MarketSize
    """

    transient_sd: float
    n_markets: int
    size: MarketSize

    def __post_init__(self) -> None:
        if self.n_markets < 1:
            raise ValidationError(
                "calibration on markets",
                expected="at least one market in each batch",
                found=f"{self.n_markets} with an edge of {self.transient_sd}",
                action="ask for more",
            )


class MarketJudge(Protocol):
    """The lineage: verdicts about a strategy on a universe at its costs, and at none."""

    def __call__(
        self, universe: UniverseConfig, strategy: StrategyConfig, limits: GatesConfig
    ) -> tuple[GateReport, GateReport]:
        """Of kind ``validation``, each as the first and only trial."""


@dataclass(frozen=True)
class JudgedMarket:
    """One market's verdicts.

    Attributes
    ----------
    seed : int
        Of the market; markets with and without an edge share their seeds, and so their random walks.
    transient_sd : float
        Size of the planted edge (log price units); 0 is noise.
    net, before_costs : dict of str to str
        Status of each gate.
    sharpe_annual, sharpe_annual_before_costs : float or None
        Of the median path.
    """

    seed: int
    transient_sd: float
    net: dict[str, str]
    before_costs: dict[str, str]
    sharpe_annual: float | None
    sharpe_annual_before_costs: float | None


@dataclass(frozen=True)
class MarketRates:
    """How often markets with an edge of one size passed.

    Attributes
    ----------
    transient_sd : float
        0 is noise.
    n_symbols : int
    years : float
    admitted, admitted_before_costs : Rate
        By every gate.
    by_gate, by_gate_before_costs : dict of str to Rate
        Each gate alone; ``not_applicable`` counts as passed where the gate may say so.
    median_sharpe_annual, median_sharpe_annual_before_costs : float or None
        Median over markets of the median path's.
    """

    transient_sd: float
    n_symbols: int
    years: float
    admitted: Rate
    admitted_before_costs: Rate
    by_gate: dict[str, Rate]
    by_gate_before_costs: dict[str, Rate]
    median_sharpe_annual: float | None
    median_sharpe_annual_before_costs: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "transient_sd": self.transient_sd,
            "n_symbols": self.n_symbols,
            "years": self.years,
            "admitted": self.admitted.to_json(),
            "admitted_before_costs": self.admitted_before_costs.to_json(),
            "by_gate": {gate: rate.to_json() for gate, rate in self.by_gate.items()},
            "by_gate_before_costs": {g: rate.to_json() for g, rate in self.by_gate_before_costs.items()},
            "median_sharpe_annual": self.median_sharpe_annual,
            "median_sharpe_annual_before_costs": self.median_sharpe_annual_before_costs,
        }


def calibrate_on_markets(
    limits: GatesConfig,
    *,
    batches: Sequence[MarketBatch],
    seed: int,
    judge: MarketJudge,
    strategy: StrategyConfig = STRATEGY,
    n_jobs: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[MarketRates, ...]:
    """Measure how often the gates pass strategies on synthetic markets.

    Parameters
    ----------
    limits : GatesConfig
    batches : sequence of MarketBatch
    seed : int
        Of the markets' seeds. Batches share them, and a longer batch adds to the same ones.
    judge : MarketJudge
        The lineage, from a universe to its verdicts.
    strategy : StrategyConfig
        What is judged on every market.
    n_jobs : int, default 2
        Processes. The verdicts do not depend on it.
    progress : callable, optional
        Called with (markets done, markets in all).

    Returns
    -------
    tuple of MarketRates
        One for each batch.

    Raises
    ------
    ValidationError
        When there is no batch.
    """
    from joblib import Parallel, delayed

    if not batches:
        raise ValidationError(
            "calibration on markets", expected="at least one batch", found="none", action="ask for one"
        )
    seeds = np.random.SeedSequence(seed).generate_state(max(batch.n_markets for batch in batches))
    jobs = [(number, int(s)) for number, batch in enumerate(batches) for s in seeds[: batch.n_markets]]
    running: Iterable[JudgedMarket] = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(judge_one)(s, batches[number].transient_sd, batches[number].size, strategy, limits, judge)
        for number, s in jobs
    )
    judged: list[list[JudgedMarket]] = [[] for _ in batches]
    for done, ((number, _), market) in enumerate(zip(jobs, running, strict=True), start=1):
        judged[number].append(market)
        if progress is not None:
            progress(done, len(jobs))
    return tuple(_rates(batch, markets) for batch, markets in zip(batches, judged, strict=True))


def judge_one(
    seed: int,
    transient_sd: float,
    size: MarketSize,
    strategy: StrategyConfig,
    limits: GatesConfig,
    judge: MarketJudge,
) -> JudgedMarket:
    """Judge a strategy on one market, at its costs and at none."""
    net, gross = judge(market_of(seed, transient_sd, size), strategy, limits)
    return JudgedMarket(
        seed=seed,
        transient_sd=transient_sd,
        net=_statuses(net),
        before_costs=_statuses(gross),
        sharpe_annual=net.verdicts[0].observed,
        sharpe_annual_before_costs=gross.verdicts[0].observed,
    )


def market_of(seed: int, transient_sd: float, size: MarketSize) -> UniverseConfig:
    """A synthetic universe; without an edge when ``transient_sd`` is 0."""
    edge = (
        Edge(transient_sd=transient_sd, half_life_sessions=HALF_LIFE_SESSIONS) if transient_sd > 0 else None
    )
    source = SyntheticSource(kind="synthetic", seed=seed, n_symbols=size.n_symbols, edge=edge)
    return UniverseConfig(name="calibration", source=source, start=size.start, end=size.end)


def _statuses(report: GateReport) -> dict[str, str]:
    """``pass`` for every gate that lets the candidate through, otherwise what it says."""
    open_gates = {
        v.gate for v in report.verdicts if not closed_reasons(report.subject, [v], required_gates=(v.gate,))
    }
    return {v.gate: "pass" if v.gate in open_gates else v.status for v in report.verdicts}


def _rates(batch: MarketBatch, markets: Sequence[JudgedMarket]) -> MarketRates:
    n = len(markets)

    def admitted(of: Sequence[dict[str, str]]) -> Rate:
        return Rate(sum(all(status == "pass" for status in statuses.values()) for statuses in of), n)

    def by_gate(of: Sequence[dict[str, str]]) -> dict[str, Rate]:
        return {
            gate: Rate(sum(statuses[gate] == "pass" for statuses in of), n)
            for gate in gate_names("validation")
        }

    net, free = [m.net for m in markets], [m.before_costs for m in markets]
    return MarketRates(
        transient_sd=batch.transient_sd,
        n_symbols=batch.size.n_symbols,
        years=round((batch.size.end - batch.size.start).days / 365.25, 1),
        admitted=admitted(net),
        admitted_before_costs=admitted(free),
        by_gate=by_gate(net),
        by_gate_before_costs=by_gate(free),
        median_sharpe_annual=_median([m.sharpe_annual for m in markets]),
        median_sharpe_annual_before_costs=_median([m.sharpe_annual_before_costs for m in markets]),
    )


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None
