"""How the gates are calibrated: quickly, to see that nothing is broken, and in full, to state the numbers."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from functools import partial

from quant_assets.gates.limits import GatesConfig
from quant_assets.studies.calibration.calibration_report import POWER_AT_SHARPE, CalibrationReport, Mode
from quant_assets.studies.calibration.markets import (
    MarketBatch,
    MarketJudge,
    MarketSize,
    calibrate_on_markets,
)
from quant_assets.studies.calibration.series import DAILY_LAW, calibrate_on_series, calibrate_selection

Progress = Callable[[str, int, int], None]

SEED = 20261121
YEARS = 10.0
TRUE_SHARPES = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
VOLATILITIES = (0.05, 0.10, 0.15, 0.20)
RECORDS = (1.0, 2.0, 3.0, 4.0, 5.0, 10.0)
AUTOCORRELATED = 0.10
END = date(2023, 12, 29)
TEN_YEARS, SIX_YEARS = date(2014, 1, 2), date(2018, 1, 2)


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes
    ----------
    n_series : int
        For each true Sharpe ratio.
    selections : tuple of (n_trials, n_repetitions)
    batches : tuple of MarketBatch
        The first is noise.
    """

    n_series: int
    selections: tuple[tuple[int, int], ...]
    batches: tuple[MarketBatch, ...]


SMALL = MarketSize(n_symbols=6, start=SIX_YEARS, end=END)
# Noise is as noisy with few symbols, and 370 markets are what an upper limit of 1 % takes (1 - .025^(1/370)). An edge
# takes breadth to be seen: with half the symbols of the shipped universe hardly anything is learned.
NOISE = MarketSize(n_symbols=10, start=TEN_YEARS, end=END)
BROAD = MarketSize(n_symbols=20, start=TEN_YEARS, end=END)

PLANS: dict[Mode, Plan] = {
    "quick": Plan(
        n_series=2000,
        selections=((20, 200),),
        batches=(MarketBatch(0.0, 6, SMALL), MarketBatch(0.02, 2, SMALL), MarketBatch(0.05, 2, SMALL)),
    ),
    "full": Plan(
        n_series=20_000,
        selections=((20, 1000), (200, 200)),
        batches=(
            MarketBatch(0.0, 370, NOISE),
            *(MarketBatch(sd, 20, BROAD) for sd in (0.005, 0.01, 0.02, 0.03)),
        ),
    ),
}


def calibrate_gates(
    limits: GatesConfig,
    mode: Mode = "quick",
    *,
    judge: MarketJudge,
    seed: int = SEED,
    n_jobs: int = 2,
    plan: Plan | None = None,
    progress: Progress | None = None,
) -> CalibrationReport:
    """Measure error rates and power of the gates at both levels.

    Parameters
    ----------
    limits : GatesConfig
    mode : {"quick", "full"}
        Quick takes under a minute of processor time; full takes half an hour of it, nearly all for the markets.
    judge : MarketJudge
        The lineage, from a universe to its verdicts.
    seed : int
    n_jobs : int, default 2
        Processes for the markets. The result does not depend on it.
    plan : Plan, optional
        In place of the mode's own.
    progress : callable, optional
        Called with (what, done, in all).
    """
    chosen = plan or PLANS[mode]

    def told(what: str) -> Callable[[int, int], None] | None:
        return partial(progress, what) if progress is not None else None

    series = partial(calibrate_on_series, limits, n_series=chosen.n_series, seed=seed)
    noise_and_skill = (0.0, POWER_AT_SHARPE)
    curve = series(years=YEARS, true_sharpe_annual=TRUE_SHARPES, law=DAILY_LAW, progress=told("power curve"))
    by_volatility = tuple(
        rates
        for volatility in VOLATILITIES
        for rates in series(
            years=YEARS,
            true_sharpe_annual=noise_and_skill,
            law=replace(DAILY_LAW, annual_volatility=volatility),
            progress=told(f"volatility {volatility:.0%}"),
        )
    )
    by_years = tuple(
        rates
        for years in RECORDS
        for rates in series(
            years=years, true_sharpe_annual=noise_and_skill, law=DAILY_LAW, progress=told(f"{years:g} years")
        )
    )
    independent = replace(DAILY_LAW, autocorrelation=0.0)
    autocorrelated = replace(DAILY_LAW, autocorrelation=AUTOCORRELATED)
    stated_alpha = tuple(
        calibrate_on_series(
            limits.model_copy(update={"psr_standard": standard}),
            n_series=chosen.n_series,
            years=YEARS,
            true_sharpe_annual=(0.0,),
            seed=seed + 1,
            law=law,
            progress=told(f"alpha, standard {standard}"),
        )[0]
        for standard, law in (("2012", independent), ("2012", autocorrelated), ("2025", autocorrelated))
    )
    selection = tuple(
        calibrate_selection(
            limits, n_trials=n, n_repetitions=repetitions, years=3.0, seed=seed + 2, law=DAILY_LAW
        )
        for n, repetitions in chosen.selections
    )
    markets = calibrate_on_markets(
        limits, batches=chosen.batches, judge=judge, seed=seed, n_jobs=n_jobs, progress=told("markets")
    )
    return CalibrationReport(
        mode=mode,
        seed=seed,
        limits=limits,
        power_curve=curve,
        by_volatility=by_volatility,
        by_years=by_years,
        stated_alpha=stated_alpha,
        selection=selection,
        markets=markets,
    )
