"""Level 1: the gates on return series whose true Sharpe ratio is known.

Daily returns ``r = sigma (SR / sqrt(252) + x)`` where ``x`` has mean 0 and variance 1, Student-t tails and
first-order autocorrelation. The Sharpe ratio is that of the platform: per period, times the square root of periods
per year, without a correction for autocorrelation.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from quant_assets.common.errors import ValidationError
from quant_assets.common.settings import GatesConfig
from quant_assets.validation.calibration.binomial import Rate
from quant_assets.validation.calibration.series_gates import SERIES_GATES, Flags, Series, decide

PERIODS_PER_YEAR = 252.0
# Series drawn from one child of the seed: enough for the compiled record kernel, 20 MB for ten years. A constant,
# because the series must not depend on how many are asked for.
SERIES_PER_CHUNK = 1000


@dataclass(frozen=True)
class ReturnLaw:
    """How the returns of a strategy scatter around their mean.

    Attributes
    ----------
    annual_volatility : float
        Fraction of capital. The Sharpe gates do not depend on it; the drawdown gate does.
    tail_degrees_of_freedom : float
        Of the Student-t innovations, above 2; 5 has kurtosis 9.
    autocorrelation : float
        First order, between -1 and 1.
    """

    annual_volatility: float = 0.10
    tail_degrees_of_freedom: float = 5.0
    autocorrelation: float = 0.05

    def __post_init__(self) -> None:
        sound = (
            self.annual_volatility > 0 and self.tail_degrees_of_freedom > 2 and abs(self.autocorrelation) < 1
        )
        if not sound:
            raise ValidationError(
                "law of the returns",
                expected="annual_volatility > 0, tail_degrees_of_freedom > 2, -1 < autocorrelation < 1",
                found=f"{asdict(self)}",
                action="correct the value",
            )


DAILY_LAW = ReturnLaw()


@dataclass(frozen=True)
class SeriesRates:
    """How often series of one true Sharpe ratio passed.

    Attributes
    ----------
    true_sharpe_annual, years : float
    law : ReturnLaw
    standard : str
        Of the Sharpe inference.
    admitted : Rate
        By every gate.
    underpowered : Rate
        Told that the record is too short.
    by_gate : dict of str to Rate
        Each gate alone.
    """

    true_sharpe_annual: float
    years: float
    law: ReturnLaw
    standard: str
    admitted: Rate
    underpowered: Rate
    by_gate: dict[str, Rate]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "true_sharpe_annual": self.true_sharpe_annual,
            "years": self.years,
            "law": asdict(self.law),
            "standard": self.standard,
            "admitted": self.admitted.to_json(),
            "underpowered": self.underpowered.to_json(),
            "by_gate": {gate: rate.to_json() for gate, rate in self.by_gate.items()},
        }


def calibrate_on_series(
    limits: GatesConfig,
    *,
    n_series: int,
    years: float,
    true_sharpe_annual: Sequence[float],
    seed: int,
    law: ReturnLaw = DAILY_LAW,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[SeriesRates, ...]:
    """Measure how often the gates pass series of known true Sharpe ratio.

    Parameters
    ----------
    limits : GatesConfig
    n_series : int
        Series for each true Sharpe ratio. The same scatter is used for each of them, so a curve over Sharpe ratios is
        smooth, and its points are not independent of each other.
    years : float
        Length of the records.
    true_sharpe_annual : sequence of float
    seed : int
        The first 1000 series are the same, however many are asked for.
    law : ReturnLaw
    progress : callable, optional
        Called with (series done, series in all).

    Returns
    -------
    tuple of SeriesRates
        One for each true Sharpe ratio, in their order.

    Raises
    ------
    ValidationError
        No series, or a record of fewer than two periods.
    """
    n_periods = round(years * PERIODS_PER_YEAR)
    if n_series < 1 or n_periods < 2 or not true_sharpe_annual:
        raise ValidationError(
            "calibration on series",
            expected="at least one series of two periods, and one true Sharpe ratio",
            found=f"{n_series} series of {n_periods} periods, {len(true_sharpe_annual)} Sharpe ratios",
            action="ask for more",
        )
    counts = [dict.fromkeys((*SERIES_GATES, "admitted", "underpowered"), 0) for _ in true_sharpe_annual]
    done = 0
    for scatter in scatters(law, n_series, n_periods, seed):
        for count, ratio in zip(counts, true_sharpe_annual, strict=True):
            decisions = decide(returns_of(scatter, ratio, law), limits, PERIODS_PER_YEAR)
            flags: dict[str, Flags] = {
                **decisions.passed,
                "admitted": decisions.admitted,
                "underpowered": decisions.underpowered,
            }
            for name, flag in flags.items():
                count[name] += int(flag.sum())
        done += len(scatter)
        if progress is not None:
            progress(done, n_series)
    return tuple(
        SeriesRates(
            true_sharpe_annual=ratio,
            years=years,
            law=law,
            standard=limits.psr_standard,
            admitted=Rate(count["admitted"], n_series),
            underpowered=Rate(count["underpowered"], n_series),
            by_gate={gate: Rate(count[gate], n_series) for gate in SERIES_GATES},
        )
        for ratio, count in zip(true_sharpe_annual, counts, strict=True)
    )


def scatters(law: ReturnLaw, n_series: int, n_periods: int, seed: int) -> Iterator[Series]:
    """Mean-0, variance-1 series in chunks of at most `SERIES_PER_CHUNK` rows, each from its own child of the seed."""
    from scipy.signal import lfilter

    rho, freedom = law.autocorrelation, law.tail_degrees_of_freedom
    unit = math.sqrt((freedom - 2.0) / freedom)
    n_chunks = -(-n_series // SERIES_PER_CHUNK)
    for number, child in enumerate(np.random.SeedSequence(seed).spawn(n_chunks)):
        rows = min(SERIES_PER_CHUNK, n_series - number * SERIES_PER_CHUNK)
        shocks = unit * np.random.Generator(np.random.PCG64(child)).standard_t(
            freedom, size=(rows, n_periods)
        )
        if rho:
            # The first value has the stationary variance 1 already; later shocks keep it there.
            shocks[:, 1:] *= math.sqrt(1.0 - rho**2)
            shocks = lfilter([1.0], [1.0, -rho], shocks, axis=1)
        yield shocks


def returns_of(scatter: Series, true_sharpe_annual: float, law: ReturnLaw) -> Series:
    """Simple returns per period with this true Sharpe ratio."""
    daily = law.annual_volatility / math.sqrt(PERIODS_PER_YEAR)
    returns: Series = daily * (scatter + true_sharpe_annual / math.sqrt(PERIODS_PER_YEAR))
    return returns
