"""What a return series did: growth, risk and drawdown. Vectorised over any number of series.

Simple returns per period, time along ``axis``. A loss of more than everything counts as losing everything. Measures
that divide by risk are NaN where there was none, so that a gate on them stays shut; NaN or infinite returns give
NaN.
"""

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from quant_assets.common.errors import ValidationError
from quant_assets.statistics.sharpe import moments, sharpe_ratio
from quant_assets.statistics.sharpe_inference import RELATIVE_ZERO, FloatArray, Statistic, check_domain, plain

# ------------------------------------------------------------------------- all sums that a track record needs

# numpy walks through memory once for each operation, about thirty times for a full record; on 10,000 series of 2,520
# days that is 1.5 s against 0.1 s here. Compiling takes seconds and loading the cached machine code a moment, so
# `quant_assets.statistics.track_record` comes here only for tables that repay it.


COLUMNS = ("mean", "second", "third", "fourth", "downside", "drawdown", "equity", "wins")


# Sums may be reordered so that they vectorise, but NaN and infinity keep their meaning (no "nnan", no "ninf").
_FAST = {"reassoc", "contract", "nsz", "arcp"}
# Series copied at a time from a table with one column per series: 16 of 2,520 periods are 320 kB, so that all passes
# find them in the second-level cache. A copy of the whole table walks through memory once more, against its grain.
_SERIES_AT_ONCE = 16


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=_FAST)
def _sums_of_one(values: NDArray[np.float64], found: NDArray[np.float64]) -> None:
    periods = values.size
    total = 0.0
    downside = 0.0
    wins = 0
    for t in range(periods):
        value = values[t]
        total += value
        loss = min(value, 0.0)
        downside += loss * loss
        wins += value > 0.0
    mean = total / periods
    second = 0.0
    third = 0.0
    fourth = 0.0
    for t in range(periods):
        deviation = values[t] - mean
        square = deviation * deviation
        second += square
        third += square * deviation
        fourth += square * square
    equity = 1.0
    peak = 1.0
    lowest = 1.0
    for t in range(periods):
        equity *= max(1.0 + values[t], 0.0)
        peak = max(peak, equity)
        # equity / peak is wanted; comparing products keeps the slow division out of the loop
        if equity < lowest * peak:
            lowest = equity / peak
    found[0] = mean
    found[1] = second / periods
    found[2] = third / periods
    found[3] = fourth / periods
    found[4] = downside / periods
    found[5] = lowest - 1.0
    found[6] = equity
    found[7] = wins


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=_FAST)
def record_sums(returns: NDArray[np.float64]) -> Any:
    """Sums of each row of an array of shape (series, T), C-contiguous.

    Returns
    -------
    ndarray, shape (series, 8)
        Mean, second to fourth central moment (divisor T), mean squared negative return, maximum drawdown (negative
        fraction), final equity (from 1), periods above 0: the order of ``COLUMNS``. The last four columns are
        meaningless where the mean is NaN.
    """
    series, _ = returns.shape
    found = np.empty((series, 8))
    for row in range(series):
        _sums_of_one(returns[row], found[row])
    return found


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=_FAST)
def record_sums_of_columns(returns: NDArray[np.float64]) -> Any:
    """As `record_sums` of an array of shape (T, series), C-contiguous: one column per series."""
    periods, series = returns.shape
    found = np.empty((series, 8))
    block = np.empty((_SERIES_AT_ONCE, periods))
    for first in range(0, series, _SERIES_AT_ONCE):
        taken = min(_SERIES_AT_ONCE, series - first)
        for t in range(periods):
            for lane in range(taken):
                block[lane, t] = returns[t, first + lane]
        for lane in range(taken):
            _sums_of_one(block[lane], found[first + lane])
    return found


# ---------------------------------------------------------------------------------------------- track records


# Below this many returns numpy is done before the compiled kernel is loaded (0.1 s against 0.5 s at 2 million).
_FUSED_FROM = 2**21


def max_drawdown(returns: ArrayLike, axis: int = -1) -> Statistic:
    """Deepest fall of equity below its earlier peak, as a negative fraction (-0.20); 0 if it never fell.

    Equity starts at 1, so a loss in the first period counts. -1 is ruin.
    """
    values = _track(returns, axis, minimum=1)
    with np.errstate(invalid="ignore", over="ignore"):
        equity = np.cumprod(np.maximum(1.0 + values, 0.0), axis=axis)
        peak = np.maximum(np.maximum.accumulate(equity, axis=axis), 1.0)
        return plain((equity / peak - 1.0).min(axis=axis))


def annual_return(returns: ArrayLike, periods_per_year: float, axis: int = -1) -> Statistic:
    """Geometric return per year, as a fraction; -1 after ruin."""
    values = _track(returns, axis, minimum=1)
    _check_calendar(periods_per_year)
    years = values.shape[axis] / periods_per_year
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        growth = np.log1p(np.maximum(values, -1.0)).sum(axis=axis)
        return plain(np.expm1(growth / years))


def annual_volatility(returns: ArrayLike, periods_per_year: float, axis: int = -1) -> Statistic:
    """Standard deviation (divisor T - 1) of returns times the square root of periods per year, as a fraction."""
    values = _track(returns, axis, minimum=2)
    _check_calendar(periods_per_year)
    with np.errstate(invalid="ignore", over="ignore"):
        return plain(values.std(axis=axis, ddof=1) * np.sqrt(periods_per_year))


def sortino_ratio(returns: ArrayLike, target: float = 0.0, axis: int = -1) -> Statistic:
    """Mean excess over ``target`` divided by downside deviation, per period.

    Downside deviation is the root mean square of the shortfalls below ``target`` over *all* periods (Sortino and
    Price 1994). NaN where no period fell short.
    """
    excess = _track(returns, axis, minimum=2) - target
    with np.errstate(invalid="ignore", over="ignore"):
        downside = np.sqrt((np.minimum(excess, 0.0) ** 2).mean(axis=axis))
        return plain(_ratio(excess.mean(axis=axis), downside))


def calmar_ratio(returns: ArrayLike, periods_per_year: float, axis: int = -1) -> Statistic:
    """Geometric annual return divided by the size of the maximum drawdown. NaN where equity never fell."""
    growth = np.asarray(annual_return(returns, periods_per_year, axis))
    return plain(_ratio(growth, -np.asarray(max_drawdown(returns, axis))))


def win_rate(returns: ArrayLike, axis: int = -1) -> Statistic:
    """Share of all periods with a return above 0; a flat period is no win."""
    values = _track(returns, axis, minimum=1)
    undefined = np.isnan(values).any(axis=axis)
    return plain(np.where(undefined, np.nan, (values > 0).mean(axis=axis)))


@dataclass(frozen=True, eq=False)
class TrackRecord:
    """Statistics of one series (floats) or of many (arrays). Ratios are per period unless their name says annual."""

    n_obs: int
    periods_per_year: float
    sharpe_per_period: Statistic
    skewness: Statistic
    kurtosis: Statistic
    annual_return_fraction: Statistic
    annual_volatility_fraction: Statistic
    max_drawdown_fraction: Statistic
    sortino_per_period: Statistic
    calmar: Statistic
    win_rate: Statistic


def track_record(returns: ArrayLike, periods_per_year: float, axis: int = -1) -> TrackRecord:
    """Compute all statistics of one or many return series.

    Parameters
    ----------
    returns : array-like, shape (..., T)
        Simple net returns per period.
    periods_per_year : float
        From the calendar (for XNYS sessions about 252).
    axis : int, default -1
        Axis of time.

    Raises
    ------
    ValidationError
        Fewer than two periods, or ``periods_per_year <= 0``.
    """
    values = _track(returns, axis, minimum=2)
    _check_calendar(periods_per_year)
    if values.size >= _FUSED_FROM:
        return _in_one_pass(np.moveaxis(values, axis, -1), periods_per_year)
    skewness, kurtosis = moments(values, axis)
    growth = annual_return(values, periods_per_year, axis)
    drawdown = max_drawdown(values, axis)
    return TrackRecord(
        n_obs=int(values.shape[axis]),
        periods_per_year=float(periods_per_year),
        sharpe_per_period=sharpe_ratio(values, axis=axis),
        skewness=skewness,
        kurtosis=kurtosis,
        annual_return_fraction=growth,
        annual_volatility_fraction=annual_volatility(values, periods_per_year, axis),
        max_drawdown_fraction=drawdown,
        sortino_per_period=sortino_ratio(values, axis=axis),
        calmar=plain(_ratio(np.asarray(growth), -np.asarray(drawdown))),
        win_rate=win_rate(values, axis),
    )


def _in_one_pass(values: FloatArray, periods_per_year: float) -> TrackRecord:
    """The same record from one walk through memory; time along the last axis."""

    periods = values.shape[-1]
    rows = values.reshape(-1, periods)
    by_column = rows.flags.f_contiguous and not rows.flags.c_contiguous
    table = record_sums_of_columns(rows.T) if by_column else record_sums(np.ascontiguousarray(rows))
    sums = {name: table[:, column].reshape(values.shape[:-1]) for column, name in enumerate(COLUMNS)}
    mean = sums["mean"]
    known = np.where(np.isnan(mean), np.nan, 0.0)
    with np.errstate(invalid="ignore", over="ignore"):
        deviation = np.sqrt(sums["second"] * (periods / (periods - 1)))
        varies = np.where(np.sqrt(sums["second"]) > RELATIVE_ZERO * np.abs(mean), sums["second"], np.nan)
        growth = sums["equity"] ** (periods_per_year / periods) - 1.0 + known
        drawdown = sums["drawdown"] + known
        return TrackRecord(
            n_obs=periods,
            periods_per_year=float(periods_per_year),
            sharpe_per_period=plain(_ratio(mean, deviation)),
            skewness=plain(sums["third"] / varies**1.5),
            kurtosis=plain(sums["fourth"] / varies**2),
            annual_return_fraction=plain(growth),
            annual_volatility_fraction=plain(deviation * np.sqrt(periods_per_year)),
            max_drawdown_fraction=plain(drawdown),
            sortino_per_period=plain(_ratio(mean, np.sqrt(sums["downside"]))),
            calmar=plain(_ratio(growth, -drawdown)),
            win_rate=plain(sums["wins"] / periods + known),
        )


def _ratio(numerator: FloatArray, risk: FloatArray) -> FloatArray:
    """``numerator / risk``, NaN where the risk is zero up to rounding."""
    present = risk > RELATIVE_ZERO * np.abs(numerator)
    ratio: FloatArray = np.where(present, numerator / np.where(present, risk, 1.0), np.nan)
    return ratio


def _track(returns: ArrayLike, axis: int, minimum: int) -> FloatArray:
    values = np.asarray(returns, dtype=np.float64)
    periods = values.shape[axis] if values.ndim else 0
    if periods < minimum:
        raise ValidationError(
            "the track record is too short",
            expected=f"at least {minimum} period(s) of returns",
            found=f"{periods} (shape {values.shape}, axis {axis})",
            action="pass the whole series, with time along the given axis",
        )
    finite = np.isfinite(values)
    return values if finite.all() else np.where(finite, values, np.nan)


def _check_calendar(periods_per_year: float) -> None:
    value = np.asarray(periods_per_year, dtype=np.float64)
    check_domain("periods_per_year", value, value > 0, "a positive number, taken from the calendar")
