"""Calibrating the gates: how much is measured, and the report of error rates and power against what they promise.

Quickly, to see that nothing is broken, and in full, to state the numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from typing import Any, Literal

import polars as pl

from quant_assets.gates.limits import GatesConfig
from quant_assets.statistics.rates import Rate
from quant_assets.statistics.sharpe import deflated_sharpe_alpha
from quant_assets.studies.calibration.best_of_trials import (
    Kind,
    LedgerPlan,
    LedgerRates,
    calibrate_on_ledgers,
)
from quant_assets.studies.calibration.markets import (
    MarketBatch,
    MarketJudge,
    MarketRates,
    MarketSize,
    calibrate_on_markets,
)
from quant_assets.studies.calibration.series import (
    DAILY_LAW,
    PERIODS_PER_YEAR,
    SeriesRates,
    calibrate_on_series,
)

Mode = Literal["quick", "full"]

# What the gates promise: the one from `min_record_sessions` on, the other for ten years of daily returns.
MOST_FALSE_PASSES = 0.01
LEAST_POWER = 0.90
POWER_AT_SHARPE = 2.0


# ------------------------------------------------------------------------------------------------- the report


@dataclass(frozen=True)
class Promise:
    """One thing that the gates promise, and what was measured.

    Attributes
    ----------
    name : str
    rate : Rate
    required : str
        In words.
    kept : bool
        By the measured share; for the stated alpha, by its interval.
    certain : bool
        Whether the whole interval keeps it.
    """

    name: str
    rate: Rate
    required: str
    kept: bool
    certain: bool

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "name": self.name,
            "required": self.required,
            "kept": self.kept,
            "certain": self.certain,
            "rate": self.rate.to_json(),
        }


@dataclass(frozen=True)
class CalibrationReport:
    """Error rates and power of one set of limits.

    Attributes
    ----------
    mode : {"quick", "full"}
    seed : int
    limits : GatesConfig
    power_curve : tuple of SeriesRates
        Ten years, by true Sharpe ratio; the first is noise (0).
    by_volatility, by_years : tuple of SeriesRates
        The same at other volatilities and record lengths, without skill and at a Sharpe ratio of 2.
    stated_alpha : tuple of SeriesRates
        Noise under the law that each standard assumes, and autocorrelated noise under both.
    ledgers : tuple of LedgerRates
        Of each kind, without skill and with it, at other record lengths and volatilities.
    markets : tuple of MarketRates
        The first is noise.
    """

    mode: Mode
    seed: int
    limits: GatesConfig
    power_curve: tuple[SeriesRates, ...]
    by_volatility: tuple[SeriesRates, ...]
    by_years: tuple[SeriesRates, ...]
    stated_alpha: tuple[SeriesRates, ...]
    ledgers: tuple[LedgerRates, ...]
    markets: tuple[MarketRates, ...]

    @property
    def promises(self) -> tuple[Promise, ...]:
        """What is promised of the gates, and whether it was kept."""
        noise = next(r for r in self.power_curve if r.true_sharpe_annual == 0.0).admitted
        skill = next(r for r in self.power_curve if r.true_sharpe_annual == POWER_AT_SHARPE).admitted
        markets = next(m for m in self.markets if m.transient_sd == 0.0)
        low, _ = skill.interval
        return (
            _at_most("noise series that pass, ten years", noise),
            _at_most("noise markets that pass, net of costs", markets.admitted),
            _at_most("noise markets that pass, before costs", markets.admitted_before_costs),
            Promise(
                f"series of true Sharpe {POWER_AT_SHARPE:g} that pass, ten years",
                skill,
                f">= {LEAST_POWER:.0%}",
                bool(skill.estimate >= LEAST_POWER),
                bool(low >= LEAST_POWER),
            ),
            self._alpha_promise(),
            *self._ledger_promises(),
        )

    def _ledger_promises(self) -> tuple[Promise, ...]:
        """The worst rows."""
        shortest = self.limits.min_record_sessions / PERIODS_PER_YEAR
        noise = [r for r in self.ledgers if r.true_sharpe_annual == 0.0 and r.years >= shortest]
        skilled = [r for r in self.ledgers if r.true_sharpe_annual == POWER_AT_SHARPE and r.years == YEARS]
        if not (noise and skilled):
            return ()
        leakiest = max(noise, key=lambda r: r.admitted.estimate)
        strictest = min(skilled, key=lambda r: r.admitted.estimate)
        low, _ = strictest.admitted.interval
        return (
            _at_most(
                f"ledgers of noise that pass, worst of {len(noise)} rows: {leakiest.plan.title}, "
                f"{leakiest.years:g} years",
                leakiest.admitted,
            ),
            Promise(
                f"ledgers of true Sharpe {POWER_AT_SHARPE:g} that pass, ten years, worst of {len(skilled)} rows: "
                f"{strictest.plan.title}",
                strictest.admitted,
                f">= {LEAST_POWER:.0%}",
                bool(strictest.admitted.estimate >= LEAST_POWER),
                bool(low >= LEAST_POWER),
            ),
            *(self._deflated_promise(r) for r in self.ledgers if self._states_its_alpha(r)),
        )

    def _states_its_alpha(self, rates: LedgerRates) -> bool:
        """Whether the table of the deflated Sharpe ratio is about such ledgers: independent trials without skill."""
        at_ten_years = (rates.true_sharpe_annual, rates.years) == (0.0, YEARS)
        usual = rates.annual_volatility == DAILY_LAW.annual_volatility
        return rates.plan.kind == "mixed" and at_ten_years and usual

    def _deflated_promise(self, rates: LedgerRates) -> Promise:
        stated = deflated_sharpe_alpha(
            rates.plan.n_trials, self.limits.dsr_min, standard=self.limits.psr_standard
        )
        inside = stated is not None and rates.deflated_alone.contains(stated)
        required = "a stated alpha" if stated is None else f"interval contains {stated:.2%}"
        return Promise(
            f"best of {rates.plan.n_trials} independent noise series that passes the deflated Sharpe gate alone",
            rates.deflated_alone,
            required,
            inside,
            inside,
        )

    def _alpha_promise(self) -> Promise:
        """The probabilistic Sharpe gate alone, on noise that obeys the assumptions of the standard in force."""
        standard, alpha = self.limits.psr_standard, 1.0 - self.limits.psr_min
        own = next(
            r
            for r in self.stated_alpha
            if r.standard == standard and (standard == "2025") == (r.law.autocorrelation != 0.0)
        )
        rate = own.by_gate["cpcv_probabilistic_sharpe"]
        inside = rate.contains(alpha)
        return Promise(
            f"noise series that pass the probabilistic Sharpe gate alone (standard {standard})",
            rate,
            f"interval contains {alpha:.0%}",
            inside,
            inside,
        )

    @property
    def passed(self) -> bool:
        """Whether every promise was kept."""
        return all(promise.kept for promise in self.promises)

    def series_table(self) -> pl.DataFrame:
        """One row for each kind of series."""
        parts = {
            "power curve": self.power_curve,
            "volatility": self.by_volatility,
            "record length": self.by_years,
            "stated alpha": self.stated_alpha,
        }
        rows = [
            {
                "study": study,
                "true_sharpe_annual": r.true_sharpe_annual,
                "years": r.years,
                "annual_volatility": r.law.annual_volatility,
                "autocorrelation": r.law.autocorrelation,
                "standard": r.standard,
                "series": r.admitted.trials,
                **_columns("admitted", r.admitted),
                "underpowered": r.underpowered.estimate,
                **{gate.removeprefix("cpcv_"): rate.estimate for gate, rate in r.by_gate.items()},
            }
            for study, rates in parts.items()
            for r in rates
        ]
        return pl.DataFrame(rows)

    def market_table(self) -> pl.DataFrame:
        """One row for each size of edge."""
        rows = [
            {
                "transient_sd": m.transient_sd,
                "symbols": m.n_symbols,
                "years": m.years,
                "markets": m.admitted.trials,
                "median_sharpe": m.median_sharpe_annual,
                "median_sharpe_before_costs": m.median_sharpe_annual_before_costs,
                **_columns("admitted", m.admitted),
                **_columns("before_costs", m.admitted_before_costs),
                **{gate.removeprefix("cpcv_"): rate.estimate for gate, rate in m.by_gate.items()},
            }
            for m in self.markets
        ]
        return pl.DataFrame(rows)

    def to_json(self) -> dict[str, Any]:
        """Plain data for the store."""
        return {
            "mode": self.mode,
            "seed": self.seed,
            "limits": self.limits.model_dump(mode="json"),
            "passed": self.passed,
            "promises": [p.to_json() for p in self.promises],
            "power_curve": [r.to_json() for r in self.power_curve],
            "by_volatility": [r.to_json() for r in self.by_volatility],
            "by_years": [r.to_json() for r in self.by_years],
            "stated_alpha": [r.to_json() for r in self.stated_alpha],
            "ledgers": [r.to_json() for r in self.ledgers],
            "markets": [m.to_json() for m in self.markets],
        }


def _at_most(name: str, rate: Rate) -> Promise:
    _, high = rate.interval
    return Promise(
        name,
        rate,
        f"<= {MOST_FALSE_PASSES:.0%}",
        bool(rate.estimate <= MOST_FALSE_PASSES),
        bool(high <= MOST_FALSE_PASSES),
    )


def _columns(name: str, rate: Rate) -> dict[str, float]:
    low, high = rate.interval
    return {name: rate.estimate, f"{name}_low": low, f"{name}_high": high}


def power_plot(report: CalibrationReport) -> str:
    """Share of series that pass against their true Sharpe ratio, with intervals, as a data URI."""
    from quant_assets.common.pages import ACCENT, BAD, GOOD, MUTED, figure_png, png_data_uri, themed_figure

    with themed_figure(6.4, 3.4) as (figure, axes):
        x = [r.true_sharpe_annual for r in report.power_curve]
        for label, colour, rates in (
            ("all gates", ACCENT, [r.admitted for r in report.power_curve]),
            ("drawdown gate alone", MUTED, [r.by_gate["cpcv_max_drawdown"] for r in report.power_curve]),
            (
                "probabilistic Sharpe gate alone",
                GOOD,
                [r.by_gate["cpcv_probabilistic_sharpe"] for r in report.power_curve],
            ),
        ):
            y = [rate.estimate for rate in rates]
            below = [rate.estimate - rate.interval[0] for rate in rates]
            above = [rate.interval[1] - rate.estimate for rate in rates]
            axes.errorbar(x, y, yerr=[below, above], color=colour, label=label, capsize=3, marker="o", ms=3.5)
        axes.axvline(report.limits.sharpe_min, color=BAD, linewidth=0.9, linestyle="--")
        axes.annotate("required", (report.limits.sharpe_min, 0.02), color=BAD, fontsize=8, ha="right",
                      xytext=(-3, 0), textcoords="offset points")  # fmt: skip
        law = report.power_curve[0].law
        axes.set_title(f"Power over ten years at {law.annual_volatility:.0%} annual volatility")
        axes.set_xlabel("true net annual Sharpe ratio")
        axes.set_ylabel("share of series that pass")
        axes.set_ylim(-0.02, 1.02)
        axes.legend(loc="lower right")
        return png_data_uri(figure_png(figure))


# -------------------------------------------------------------------------------------------- the measurement


Progress = Callable[[str, int, int], None]

SEED = 20261121
YEARS = 10.0
TRUE_SHARPES = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
VOLATILITIES = (0.10, 0.15, 0.20, 0.30)
RECORDS = (1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 20.0)
PLATEAUS, COPIES = (0.5, 0.8), 0.999
# Of a search that keeps what looks better. In the middle one it finds the most within some tens of trials.
STEPS = (0.5, 0.8, 0.95)
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
    ledgers : tuple of LedgerPlan
    ledger_years : tuple of float
    batches : tuple of MarketBatch
        The first is noise.
    """

    n_series: int
    ledgers: tuple[LedgerPlan, ...]
    ledger_years: tuple[float, ...]
    batches: tuple[MarketBatch, ...]


SMALL = MarketSize(n_symbols=6, start=SIX_YEARS, end=END)
# Noise is as noisy with few symbols. An upper limit of 1 % takes 370 markets (1 - .025^(1/370)). An edge takes
# breadth to be seen: with half the symbols of the shipped universe hardly anything is learned.
NOISE = MarketSize(n_symbols=10, start=TEN_YEARS, end=END)
BROAD = MarketSize(n_symbols=20, start=TEN_YEARS, end=END)


Kinds = tuple[tuple[Kind, float], ...]
MAIN: Kinds = (("mixed", 0.0), ("search", STEPS[1]))
PLATEAU: Kinds = tuple(("plateau", rho) for rho in PLATEAUS)
OTHERS: Kinds = tuple(("search", rho) for rho in (STEPS[0], STEPS[2]))


def ledger_plans(kinds: Kinds, *sizes: tuple[int, int, int]) -> tuple[LedgerPlan, ...]:
    """Ledgers of these kinds, of so many trials each: (trials, ledgers without skill, ledgers with it)."""
    return tuple(
        LedgerPlan(kind, n_trials, correlation, n_ledgers, n_skilled)
        for n_trials, n_ledgers, n_skilled in sizes
        for kind, correlation in kinds
    )


PLANS: dict[Mode, Plan] = {
    "quick": Plan(
        n_series=2000,
        ledgers=(LedgerPlan("plateau", 5, 0.8, 100, 50), LedgerPlan("mixed", 10, 0.0, 100, 50)),
        ledger_years=(YEARS,),
        batches=(MarketBatch(0.0, 6, SMALL), MarketBatch(0.02, 2, SMALL), MarketBatch(0.05, 2, SMALL)),
    ),
    "full": Plan(
        n_series=5000,
        ledgers=(
            LedgerPlan("plateau", 1, 0.0, 5000, 1000),
            # Where .6 % of noise passes, 3,000 ledgers show that it is below 1 %; where none does, 370.
            *ledger_plans((*PLATEAU, *MAIN, *OTHERS), (2, 10_000, 400), (5, 3000, 400), (10, 1500, 300)),
            *ledger_plans((*PLATEAU, *MAIN), (40, 2000, 400)),
            *ledger_plans(OTHERS, (40, 500, 150)),
            LedgerPlan("copies", 400, COPIES, 100, 60),
        ),
        ledger_years=(2.0, 3.0, 4.0, 5.0, 10.0, 20.0),
        batches=(
            MarketBatch(0.0, 370, NOISE),
            *(MarketBatch(sd, 10, BROAD) for sd in (0.005, 0.01, 0.02, 0.03)),
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
        Quick takes under a minute of processor time; full takes an hour of it, a third for the
        ledgers and the rest for the markets.
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
    ledgers = calibrate_on_ledgers(
        limits,
        plans=chosen.ledgers,
        years=chosen.ledger_years,
        volatilities=VOLATILITIES,
        true_sharpe_annual=POWER_AT_SHARPE,
        seed=seed + 2,
        n_jobs=n_jobs,
        progress=told("ledgers"),
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
        ledgers=ledgers,
        markets=markets,
    )
