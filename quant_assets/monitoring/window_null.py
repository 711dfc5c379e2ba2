"""What distances do without drift: a feature's own windows, and how often the whole alarm then rings."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from quant_assets.gates.limits import DriftConfig
from quant_assets.monitoring.drift import Floats, benjamini_hochberg, js_distances
from quant_assets.statistics.rates import clopper_pearson

# ------------------------------------------------------------------------- what a distance does without drift

# Textbook thresholds take rows for independent. Features are autocorrelated (a 200-session average moves once a
# year) and symbols move together, so a 63-session window of 10 symbols holds far fewer than 630 observations,
# and "KS p < .05" rings 97 % of the time without any drift at AR(1) = .98. Here the unit is the *window*: every
# contiguous window of the baseline, all symbols together, is compared with the rest of the baseline.
#
# Some 40 disjoint windows cannot show a 1 % tail, so it is extrapolated: the logit of the JS distance is taken
# as normal, and a new window is judged by the predictive Student t with the number of windows that neighbouring
# windows' correlation leaves.
#
# Measured without drift at alpha .01 (1000 panels of 8 features, 10 symbols, half of the variance common, 2400
# sessions, windows of 63, AR(1) = 0 / .5 / .9 / .98 / .995): one feature alone rings 0.8 / 1.0 / 0.7 / 1.2 / 1.9 %
# of the time, three features after Benjamini-Hochberg at most 0.1 %. A shift of every feature by one standard
# deviation is seen in 100 / 100 / 40 / 11 / 10 % of windows: the distribution of a quarter of a slow feature is one
# observation. The KS statistic in place of the JS distance saw a doubled spread at AR(1) = .5 in
# 22 % of windows, the JS distance in 100 %. What this test cannot see of slow features, their steps show
# (`quant_assets.monitoring.whitening`).


# Windows overlap by two thirds: the mean and the spread are steadier than from disjoint ones alone.
OVERLAP = 3

# The logit has no value at 0 and 1. No window of real size comes below 1e-4 by chance (10 bins and 100,000
# rows give .004), and a distance of 1 is drift by any measure.
_LOWEST, _HIGHEST = 1e-4, 1.0 - 1e-6

# A constant feature has windows without any spread: the smallest departure is then drift, not a division by 0.
_SMALLEST_SPREAD = 1e-6


@dataclass(frozen=True)
class WindowNull:
    """Distribution of one feature's window distance without drift.

    Attributes
    ----------
    mean_logit, spread_logit : float
        Mean and standard deviation of the logit of the JS distance (bits) over the windows.
    effective_windows : float
        Independent windows that the baseline amounts to, after the correlation of neighbours.
    critical_js_distance_bits : float
        The distance whose p-value is alpha: a single feature, taken alone, rings above it.
    """

    mean_logit: float
    spread_logit: float
    effective_windows: float
    critical_js_distance_bits: float


def logit(distances: Floats) -> Floats:
    """Log odds of distances in [0, 1], kept finite at both ends."""
    clipped = np.clip(distances, _LOWEST, _HIGHEST)
    odds: Floats = np.log(clipped / (1.0 - clipped))
    return odds


def window_starts(n_sessions: int, window_sessions: int) -> NDArray[np.int64]:
    """First sessions of the overlapping windows; every `OVERLAP`-th of them are disjoint."""
    stride = max(window_sessions // OVERLAP, 1)
    return np.arange(0, n_sessions - window_sessions + 1, stride, dtype=np.int64)


def window_counts(counts: Floats, starts: NDArray[np.int64], window_sessions: int) -> Floats:
    """Counts per window and bin from counts per session and bin (shape (n_sessions, n_bins))."""
    running = np.vstack([np.zeros((1, counts.shape[1])), np.cumsum(counts, axis=0)])
    windows: Floats = running[starts + window_sessions] - running[starts]
    return windows


def distances_to_rest(total: Floats, baseline_windows: Floats, windows: Floats) -> Floats:
    """JS distance (bits) of each window from the baseline without the window in the same place.

    ``windows`` equals ``baseline_windows`` for the null, or holds the same windows after a planted change.
    """
    rest = total - baseline_windows
    return js_distances(rest / rest.sum(axis=1, keepdims=True), windows / windows.sum(axis=1, keepdims=True))


def fit_null(distances: Floats, n_disjoint: int, alpha: float) -> WindowNull:
    """Fit the distribution of window distances in time order (shape (n_windows,))."""
    from scipy.special import expit, stdtrit

    mean, spread, effective = moments(logit(distances), n_disjoint)
    quantile = float(stdtrit(effective - 1.0, 1.0 - alpha)) * math.sqrt(1.0 + 1.0 / effective)
    return WindowNull(mean, spread, effective, float(expit(mean + spread * quantile)))


def moments(odds: Floats, n_disjoint: int) -> tuple[float, float, float]:
    """Mean, standard deviation and effective number of windows of logits in time order.

    The effective number follows from the correlation r of windows that lie one window apart:
    n (1 - r) / (1 + r), where 1 / n corrects r for being estimated about its own mean.
    """
    mean = float(odds.mean())
    centred = odds - mean
    variance = float((centred**2).mean())
    correlation = 0.0
    if variance > 0 and odds.size > OVERLAP:
        neighbours = float((centred[OVERLAP:] * centred[:-OVERLAP]).mean())
        correlation = min(max(neighbours / variance + 1.0 / n_disjoint, 0.0), 0.9)
    effective = max(n_disjoint * (1.0 - correlation) / (1.0 + correlation), 2.0)
    spread = math.sqrt(variance * effective / (effective - 1.0))
    return mean, max(spread, _SMALLEST_SPREAD), effective


def p_value(distances: Floats, mean: float, spread: float, effective: float) -> Floats:
    """Chance that a new window without drift is at least this far away (predictive Student t, one-sided)."""
    from scipy.special import stdtr

    score = (logit(distances) - mean) / (spread * math.sqrt(1.0 + 1.0 / effective))
    return np.asarray(stdtr(effective - 1.0, -score), dtype=np.float64)


def left_out_p_values(null_distances: Floats, judged: Floats, n_disjoint: int) -> Floats:
    """p-value of each disjoint window against the windows that share no session with it.

    Parameters
    ----------
    null_distances : array, shape (n_windows,)
        Distances of the overlapping windows, in time order.
    judged : array, shape (..., n_disjoint)
        Distances to judge: of the disjoint windows as they are, or after a planted change.
    """
    positions = np.arange(null_distances.size)
    odds = logit(null_distances)
    chances = np.empty(judged.shape)
    for index in range(judged.shape[-1]):
        apart = np.abs(positions - index * OVERLAP) >= OVERLAP
        chances[..., index] = p_value(judged[..., index], *moments(odds[apart], n_disjoint - 1))
    return chances


# ------------------------------------------------------------------------- what a joint jump does without drift

# Of the whitened series: see `quant_assets.monitoring.whitening`.
STARTS = 3  # windows of the null start at thirds of a window
STATISTIC_TAIL = 0.02  # share of the baseline's sessions to which the tail of the statistic is fitted

# |S| from which a feature moved at a session: chance .05 without drift. It defines which features a joint jump is of;
# what makes the jump significant is the sum.
MOVED = 1.96


class Rehearsed(NamedTuple):
    """Disjoint windows of the baseline, each against the tail of the others.

    Attributes
    ----------
    p_values : array, shape (n_windows,)
    scores : array, shape (n_windows, n_features)
        S at the most suspicious session of each window.
    """

    p_values: Floats
    scores: Floats


def tail_chance(
    statistic: float | Floats,
    threshold: float,
    share: float,
    mean_excess: float,
    exceedances: float,
    n_sessions: int,
) -> Floats:
    """Chance of a greater statistic in ``n_sessions`` sessions; 1 at the threshold and below it.

    A session exceeds the threshold with chance ``share``, and its excess is exponential. Its scale is estimated from
    ``exceedances`` sessions, which makes the predictive tail that of Lomax: (1 + x / (n m))^-n, m the mean.
    """
    excess = (np.asarray(statistic, dtype=np.float64) - threshold) / mean_excess
    one = share * (1.0 + np.maximum(excess, 0.0) / exceedances) ** -exceedances
    chance: Floats = np.where(excess > 0, -np.expm1(n_sessions * np.log1p(-one)), 1.0)
    return chance


def disjoint(values: Floats, first: int, window: int) -> Floats:
    """Disjoint windows from a position on: (n_windows, window, n_features)."""
    n_windows = (len(values) - first) // window
    return values[first : first + n_windows * window].reshape(n_windows, window, -1)


def project(windows: Floats, filters: Floats) -> Floats:
    """S of each session: (n_windows, n_sessions, n_features) to the same shape."""
    projected: Floats = np.matmul(filters, windows.transpose(2, 1, 0)).transpose(2, 1, 0)
    return projected


def greatest(projected: Floats, strongest: int) -> Floats:
    """Sum of the greatest squares over features; 0 where fewer features moved."""
    squares = projected**2
    top = np.partition(squares, squares.shape[-1] - strongest, axis=-1)[..., -strongest:]
    together = top[..., 0] >= MOVED**2  # the least of them
    total: Floats = np.where(together, top.sum(axis=-1), 0.0)
    return total


@dataclass(frozen=True, eq=False)
class JumpNull:
    """The statistic of the baseline's sessions beyond the threshold, and which window each is in."""

    filters: Floats
    first: int
    strongest: int
    threshold: float
    share: float
    excess: Floats
    window_of: NDArray[np.int64]
    repeats: int

    @classmethod
    def of(cls, scores: Floats, filters: Floats, first: int, strongest: int) -> "JumpNull":
        """From the scores of the baseline's sessions; ``first`` is where the first disjoint window begins."""
        window = filters.shape[-1]
        statistics, places = [], []
        starts = [(first + k * max(window // STARTS, 1)) % window for k in range(STARTS)]
        for start in starts:
            found = greatest(project(disjoint(scores, start, window), filters), strongest).ravel()
            statistics.append(found)
            places.append(start + np.arange(found.size))
        pooled, where = np.concatenate(statistics), np.concatenate(places)
        # Few features seldom move together: the statistic is then mostly 0, and its tail begins where it does.
        threshold = max(float(np.quantile(pooled, 1.0 - STATISTIC_TAIL)), strongest * MOVED**2)
        beyond = pooled > threshold
        share = max(int(beyond.sum()), 1) / pooled.size
        window_of = (where[beyond] - first) // window
        excess = pooled[beyond] - threshold
        return cls(filters, first, strongest, threshold, share, excess, window_of, len(starts))

    def tail(self, without: int | None = None) -> tuple[float, float, float, float]:
        """Threshold, share, mean excess and exceedances, each session counted once; without those of one window.

        One exceedance more than there are has the mean excess that features moving as one would have, the longest
        tail of a sum of squared normal scores: twice their number.
        """
        excess = self.excess if without is None else self.excess[self.window_of != without]
        n = excess.size / self.repeats
        mean = (float(excess.sum()) / self.repeats + 2.0 * self.strongest) / (n + 1.0)
        return self.threshold, self.share, mean, n + 1.0

    def rehearse(self, scores: Floats, *, first: int | None = None) -> Rehearsed:
        """Judge each disjoint window by the tail of the others."""
        window = self.filters.shape[-1]
        projected = project(disjoint(scores, self.first if first is None else first, window), self.filters)
        statistics = greatest(projected, self.strongest)
        worst = statistics.argmax(axis=1)
        chances = [tail_chance(statistics[i, k], *self.tail(i), window) for i, k in enumerate(worst)]
        return Rehearsed(np.array(chances), projected[np.arange(len(worst)), worst])


# --------------------------------------------------------- how often the data set's alarm rings without drift


@dataclass(frozen=True)
class AlarmRehearsal:
    """The data set's alarm, rehearsed on the baseline's own disjoint windows, each left out of its own null.

    Attributes
    ----------
    n_windows, false_alarms : int
        Windows judged as they are, and how many of them raised the alarm.
    power_mean_shift_1sd, power_spread_x2 : float
        Share of windows that raise it when as few features as make an alarm (others in each window) jump at its
        first session: by one of their standard deviations, or to twice the spread.
    windows_per_year : float
        Disjoint windows in a calendar year.
    """

    n_windows: int
    false_alarms: int
    power_mean_shift_1sd: float
    power_spread_x2: float
    windows_per_year: float

    def alarms_per_year(self, confidence: float = 0.95) -> tuple[float, float, float]:
        """Alarms per year without drift, judged once per window: estimate and Clopper-Pearson interval."""
        low, high = clopper_pearson(self.false_alarms, self.n_windows, confidence)
        year = self.windows_per_year
        return self.false_alarms / self.n_windows * year, low * year, high * year


# The three tests share alpha, so that together they keep it. The two of a jump get the most: they are all that sees
# slow features, and most features are slow; what the window test sees of fast ones it sees at any level.
WINDOW_SHARE, JUMP_SHARE = 0.1, 0.45


def window_drifted(p_values: Floats, drift: DriftConfig) -> NDArray[np.bool_]:
    """Which features (columns) drifted in each window (rows), by its distribution."""
    return np.asarray(benjamini_hochberg(p_values) <= WINDOW_SHARE * drift.alpha)


def jumped(p_values: Floats, scores: Floats, drift: DriftConfig) -> NDArray[np.bool_]:
    """Which features (columns) jumped in each window (rows): none, unless they did so together.

    Parameters
    ----------
    p_values : array, shape (n_windows,)
        Of the joint jump (`quant_assets.monitoring.whitening`).
    scores : array, shape (n_windows, n_features)
        Of each feature at its session, standard normal without drift.
    """
    together = p_values <= JUMP_SHARE * drift.alpha
    return np.asarray(together[:, None] & (np.abs(scores) >= MOVED))


def alarms(drifted: NDArray[np.bool_], drift: DriftConfig) -> NDArray[np.bool_]:
    """Whether each window (rows) raises the data set's alarm over its features (columns)."""
    return np.asarray(drifted.sum(axis=-1) >= drift.min_drifted_features)
