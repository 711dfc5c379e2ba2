"""Level 1: the gates on return series whose true Sharpe ratio is known, thousands at once.

Daily returns ``r = sigma (SR / sqrt(252) + x)`` where ``x`` has mean 0 and variance 1, Student-t tails and
first-order autocorrelation. The Sharpe ratio is that of the platform: per period, times the square root of periods
per year, without a correction for autocorrelation.

Each series stands for a candidate with a single path and a ledger that holds that one trial. What is decided here
and what `quant_assets.gates.evidence.judge_candidate` decides is the same, series by series: a test compares them.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant_assets.common.errors import ValidationError
from quant_assets.gates.cases import CSCV_BLOCKS
from quant_assets.gates.limits import GatesConfig
from quant_assets.statistics import sharpe
from quant_assets.statistics.overfitting import level_of_best
from quant_assets.statistics.rates import Rate
from quant_assets.statistics.track_record import TrackRecord, max_drawdown, track_record

Series = NDArray[np.float64]


# ------------------------------------------------------------------------------- series of known Sharpe ratio


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


# ----------------------------------------------------------------- the gates, for thousands of series at once


Flags = NDArray[np.bool_]

SERIES_GATES = (
    "cpcv_sharpe",
    "cpcv_probabilistic_sharpe",
    "cpcv_deflated_sharpe",
    "cpcv_max_drawdown",
    "cpcv_loss_probability",
)


@dataclass(frozen=True, eq=False)
class SeriesDecisions:
    """What each gate decided about each series.

    Attributes
    ----------
    passed : mapping of str to ndarray of bool, shape (series,)
        For each gate of `SERIES_GATES`.
    underpowered : ndarray of bool, shape (series,)
        Where the Sharpe gate says that the record is too short to tell.
    """

    passed: Mapping[str, Flags]
    underpowered: Flags

    @property
    def admitted(self) -> Flags:
        """Series that every gate let pass."""
        admitted: Flags = np.logical_and.reduce([self.passed[gate] for gate in SERIES_GATES])
        return admitted


def decide(
    returns: Series,
    limits: GatesConfig,
    periods_per_year: float,
    *,
    n_trials: int = 1,
    variance: Series | float = 0.0,
    loss: Series | None = None,
    searched: Flags | None = None,
) -> SeriesDecisions:
    """Pass many series through the gates, each as the candidate of a ledger.

    Parameters
    ----------
    returns : ndarray, shape (series, T)
        Net simple returns per period.
    limits : GatesConfig
    periods_per_year : float
    n_trials : int
        In each ledger.
    variance : float or ndarray, shape (series,)
        Of the per-period Sharpe ratios of the other trials.
    loss : ndarray, shape (series,), optional
        Probability of loss of each ledger; that of the series alone when not given.
    searched : ndarray of bool, shape (series,), optional
        Whether each ledger shows a search; none does when not given.

    Raises
    ------
    ValidationError
        When ``returns`` is not two-dimensional, or a return is not finite.
    """
    if returns.ndim != 2 or not np.isfinite(returns).all():
        raise ValidationError(
            "return series",
            expected="finite returns of shape (series, periods)",
            found=f"shape {returns.shape}, {int((~np.isfinite(returns)).sum())} not finite",
            action="pass one row for each series",
        )
    record, standard = track_record(returns, periods_per_year), limits.psr_standard
    rho: Series | float = autocorrelations(returns) if standard == "2025" else 0.0
    ratio, n = record.sharpe_per_period, record.n_obs
    psr = sharpe.probabilistic_sharpe_ratio(
        ratio, n, record.skewness, record.kurtosis, standard=standard, autocorrelation=rho
    )
    error = sharpe.sharpe_standard_error(0.0, n, standard=standard, autocorrelation=rho)
    dsr = sharpe.deflated_sharpe_ratio(
        ratio, n, n_trials, np.fmax(np.maximum(variance, 1.0 / n), error**2), record.skewness, record.kurtosis,
        standard=standard, autocorrelation=rho,
    )  # fmt: skip
    annual = sharpe.annualised_sharpe(ratio, periods_per_year)
    short = _shorter_than_needed(record, rho, limits, periods_per_year, n_trials, searched)
    # What is too little is too little on any record that is long enough for anything.
    underpowered = short & ((annual >= limits.sharpe_min) | (n < limits.min_record_sessions))
    lost = losses(returns) if loss is None else loss
    scale = limits.reference_volatility / np.where(np.isnan(ratio), np.nan, record.annual_volatility_fraction)
    scaled = max_drawdown(returns * scale[:, None], axis=1)
    # NaN compares false: a series without variance passes none.
    passed = {
        "cpcv_sharpe": (annual >= limits.sharpe_min) & ~underpowered,
        "cpcv_probabilistic_sharpe": psr >= limits.psr_min,
        "cpcv_deflated_sharpe": dsr >= limits.dsr_min,
        "cpcv_max_drawdown": scaled >= limits.max_drawdown_min,
        "cpcv_loss_probability": (lost <= limits.loss_probability_max) & (n >= 2 * CSCV_BLOCKS),
    }
    return SeriesDecisions(passed, underpowered & ~np.isnan(annual))


def _shorter_than_needed(
    record: TrackRecord,
    rho: Series | float,
    limits: GatesConfig,
    periods_per_year: float,
    n_trials: int,
    searched: Flags | None,
) -> Flags:
    """Whether the best of so many trials without skill shows as much too often in so short a record."""
    required = limits.sharpe_min / math.sqrt(periods_per_year)
    shown = np.fmax(record.sharpe_per_period, required)
    independent, combined = (
        level_of_best(n_trials, limits.false_pass_max, searched=flag) for flag in (False, True)
    )
    alpha = independent if searched is None else np.where(searched, combined, independent)
    standard = limits.psr_standard
    normal = sharpe.minimum_track_record_length(shown, alpha=alpha, standard=standard)
    own = sharpe.minimum_track_record_length(
        shown, record.skewness, record.kurtosis, 0.0, alpha, standard=standard, autocorrelation=rho
    )
    needed = np.where(shown > 0.0, np.fmax(normal, own), 0.0)
    return np.asarray(record.n_obs < np.maximum(needed, limits.min_record_sessions))


def losses(returns: Series) -> Series:
    """Probability of loss (CSCV) of each row as the only trial: the share of halves of its record that lost."""
    periods = returns.shape[1]
    if periods < 2 * CSCV_BLOCKS:
        return np.full(len(returns), np.nan)
    sums = np.add.reduceat(returns, block_starts(periods), axis=1)
    halves = sums @ first_halves().T
    share: Series = (
        (halves <= 0.0).sum(axis=1) + (sums.sum(axis=1, keepdims=True) <= halves).sum(axis=1)
    ) / (2 * halves.shape[1])
    # A half that does not vary has a Sharpe ratio of 0, and has not gained.
    return np.where(np.ptp(returns, axis=1) > 0.0, share, 1.0)


def block_starts(periods: int) -> NDArray[np.int64]:
    """First period of each block of CSCV."""
    size, longer = divmod(periods, CSCV_BLOCKS)
    return np.array([block * size + min(block, longer) for block in range(CSCV_BLOCKS)])


@cache
def first_halves() -> Series:
    """0/1 rows: the choices of half of the blocks that hold the first one; the others are what these leave."""
    choices = [(0, *rest) for rest in combinations(range(1, CSCV_BLOCKS), CSCV_BLOCKS // 2 - 1)]
    matrix = np.zeros((len(choices), CSCV_BLOCKS))
    matrix[np.arange(len(choices))[:, None], np.array(choices)] = 1.0
    return matrix


def autocorrelations(returns: Series) -> Series:
    """First-order autocorrelation of each row; NaN where returns do not vary."""
    deviations = returns - returns.mean(axis=1, keepdims=True)
    total = (deviations * deviations).sum(axis=1)
    lagged = (deviations[:, 1:] * deviations[:, :-1]).sum(axis=1)
    found: Series = np.where(total > 0.0, lagged / np.where(total > 0.0, total, 1.0), np.nan)
    return found
