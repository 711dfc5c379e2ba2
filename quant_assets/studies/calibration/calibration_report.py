"""The calibration report: what was measured, against what the gates promise."""

from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from quant_assets.gates.limits import GatesConfig
from quant_assets.statistics.rates import Rate
from quant_assets.studies.calibration.markets import MarketRates
from quant_assets.studies.calibration.series import SelectionRates, SeriesRates

Mode = Literal["quick", "full"]

# What the gates promise for ten years of daily returns.
MOST_FALSE_PASSES = 0.01
LEAST_POWER = 0.80
POWER_AT_SHARPE = 2.0


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
    selection : tuple of SelectionRates
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
    selection: tuple[SelectionRates, ...]
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
            "selection": [r.to_json() for r in self.selection],
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
    from quant_assets.common.plotting import ACCENT, BAD, GOOD, MUTED, figure_png, png_data_uri, themed_figure

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
