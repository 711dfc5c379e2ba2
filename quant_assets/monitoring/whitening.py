"""Jumps of slow series: each session against the forecast from the sessions before it, with a null of its own.

A feature with an autocorrelation of .98 is at a new level for a quarter as a matter of course, so the distribution
of a window says nothing about it. The step from one session to the next does: a jump of one standard deviation is
five to seven standard deviations of the step. Two series of each feature are whitened by their own past: the mean
over symbols (a jump of level), and the logarithm of the standard deviation over symbols (a jump of spread).

1. Autoregression, order of 1 to 21 by AIC. Innovations over their moving mean absolute value (half-life 23 sessions)
   lose the clusters of volatility; their normal scores lose the heavy tails: the body from quantiles, each tail a
   Student t over a threshold, averaged over the posterior of its degrees of freedom, so that it neither ends at the
   largest value seen nor rests on one estimate.
2. A jump at session s leaves 1, 1 - a_1, 1 - a_1 - a_2, ... in the innovations from s on. S(s) is the projection of
   the scores on that signature, for every session of the window.
3. The statistic is the largest sum, over sessions at which at least k features moved, of the k greatest S(s)^2: what
   moves the market moves several features at once, and together they are seen where none of them is alone.
4. Its null is that of the baseline's own sessions, scored by what was fitted to the other nine tenths of it:
   the dependence between features, sessions and symbols is in it as it is. Beyond a threshold the tail is
   exponential, as that of a sum of squared normal scores is whatever their dependence, with the uncertainty of its
   scale (a Lomax tail), and a window has as many chances as sessions.
"""

import math
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from quant_assets.common.errors import DriftError
from quant_assets.monitoring.drift import Floats
from quant_assets.monitoring.window_null import JumpNull, Rehearsed, disjoint, greatest, project, tail_chance

LONGEST_LAG = 21
ORDERS = (1, 2, 5, 10, LONGEST_LAG)
SCALE_DECAY = 0.97  # of the moving mean absolute innovation: of .94, .97 sees 5 % more jumps of calm features
SMALLEST_SCALE = 0.1  # of the long-run scale: a feature that stood still has not become infinitely precise
TAIL_SHARE = 0.1  # of the scores on each side, beyond which a tail is fitted
BODY = np.linspace(TAIL_SHARE, 1.0 - TAIL_SHARE, 65)
TAIL_DEGREES = (2.5, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 30.0, math.inf)
TAIL_STEP, MOST_RATIO = 0.02, 1e4  # of the table of tails, in logarithms of the ratio to the end of the body
FOLDS = 10


@dataclass(frozen=True)
class SeriesModel:
    """How one series of a feature moves from session to session.

    Attributes
    ----------
    mean, sd : float
        Of the baseline; the rest is in units of ``sd``.
    intercept : float
    coefficients : tuple of float
        Autoregression, the latest session first.
    newest : tuple of float
        The last `LONGEST_LAG` values of the baseline, in time order.
    scale, long_run_scale : float
        Moving mean absolute innovation after the baseline, and that of all of it.
    knots : tuple of float
        Quantiles of the scaled innovations at `BODY`.
    below, above : tuple of float
        Weights of `TAIL_DEGREES` in the two tails.
    moves : bool
        Whether there is anything to whiten; a series that (nearly) always stands still is left to the window test.
    """

    mean: float
    sd: float
    intercept: float
    coefficients: tuple[float, ...]
    newest: tuple[float, ...]
    scale: float
    long_run_scale: float
    knots: tuple[float, ...]
    below: tuple[float, ...]
    above: tuple[float, ...]
    moves: bool


@dataclass(frozen=True)
class Jump:
    """The most suspicious session of a window.

    Attributes
    ----------
    session : int
        Its position among the sessions that were judged.
    statistic, p_value : float
        Sum of the greatest squared scores, and the chance of a greater one in as many sessions without drift.
    scores : tuple of float
        S of each feature at that session: standard normal without drift, positive for a jump upwards.
    """

    session: int
    statistic: float
    p_value: float
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Whitening:
    """One series of all features, and what the largest joint jump of a window does without drift.

    Attributes
    ----------
    series : tuple of SeriesModel
        In the order of the features.
    strongest : int
        How many features the statistic adds up.
    threshold, share, mean_excess : float
        The statistic of a single session beyond which its tail is fitted, the share of sessions and the mean excess.
    exceedances : float
        Sessions of the baseline beyond, each counted once.
    """

    series: tuple[SeriesModel, ...]
    strongest: int
    threshold: float
    share: float
    mean_excess: float
    exceedances: float

    def __post_init__(self) -> None:
        lengths = {"coefficients": LONGEST_LAG, "newest": LONGEST_LAG, "knots": len(BODY)}
        lengths |= dict.fromkeys(("below", "above"), len(TAIL_DEGREES))
        sound = (
            1 <= self.strongest <= len(self.series)
            and min(self.share, self.mean_excess, self.exceedances) > 0.0
        )
        for series in self.series:
            sound = sound and all(len(getattr(series, key)) == length for key, length in lengths.items())
            sound = sound and min(series.sd, series.long_run_scale) > 0.0 <= series.scale
            sound = sound and list(series.knots) == sorted(series.knots)
        if not sound:
            raise DriftError(
                "whitened series of the drift baseline",
                expected=f"for each feature {lengths}, scales above 0 and ascending knots; a tail of the statistic",
                found=f"{len(self.series)} features, {self.strongest} of them added up, tail {self.mean_excess}",
                action="materialise drift_baseline again",
            )

    def p_value(self, statistic: float | Floats, n_sessions: int) -> Floats:
        """Chance that a window of so many sessions without drift holds a session with a greater statistic."""
        return tail_chance(
            statistic, self.threshold, self.share, self.mean_excess, self.exceedances, n_sessions
        )

    @cached_property
    def _fitted(self) -> "_Scorer":
        rows = [(s.knots, s.below, s.above, s.moves) for s in self.series]
        knots, below, above, moves = (np.array(part) for part in zip(*rows, strict=True))
        return _Scorer(knots.T, below.T, above.T, moves)

    @cached_property
    def _coefficients(self) -> Floats:
        return np.array([s.coefficients for s in self.series])

    def of(self, attribute: str) -> Floats:
        """One attribute of every series, shape (n_features,)."""
        return np.array([getattr(s, attribute) for s in self.series], dtype=np.float64)

    @property
    def newest(self) -> Floats:
        """The end of the baseline in the series' own unit, shape (LONGEST_LAG, n_features)."""
        return np.array([s.newest for s in self.series]).T

    def score(self, values: Floats, *, follows: bool) -> Floats:
        """Normal scores of the innovations of consecutive sessions.

        Parameters
        ----------
        values : array, shape (n_sessions, n_features)
        follows : bool
            Whether the first of them is the session after the baseline. Otherwise the first `LONGEST_LAG` only
            serve to forecast the next, and have no score.
        """
        before = self.newest if follows else np.empty((0, len(self.series)))
        y = (np.vstack([before, values]) - self.of("mean")) / self.of("sd")
        if len(y) <= LONGEST_LAG:
            return y[:0]
        innovations = _innovations(y, self.of("intercept"), self._coefficients)
        start = self.of("scale" if follows else "long_run_scale")
        scales, _ = _scales(innovations, start, self.of("long_run_scale"))
        return self._fitted.score(innovations / scales)

    def judge(self, scores: Floats) -> Jump:
        """The most suspicious of the sessions (rows) of a window, given its scores."""
        projected = project(scores[None], _filters(self._coefficients, len(scores)))[0]
        statistics = greatest(projected, self.strongest)
        session = int(statistics.argmax())
        return Jump(
            session=session,
            statistic=float(statistics[session]),
            p_value=float(self.p_value(float(statistics[session]), len(scores))),
            scores=tuple(projected[session].tolist()),
        )


def fit_whitening(
    values: Floats, window_sessions: int, strongest: int, planted: Floats
) -> tuple[Whitening, Rehearsed, Rehearsed]:
    """Fit the series of all features and the null of their joint jump, and rehearse it on the baseline.

    Parameters
    ----------
    values : array, shape (n_sessions, n_features)
        Of consecutive sessions.
    window_sessions : int
    strongest : int
        Features that the statistic adds up.
    planted : array, shape (n_windows, n_features)
        A jump to plant at the first session of each disjoint window, from the `first_rehearsed` on.

    Returns
    -------
    Whitening
    Rehearsed
        The windows as they are, by what was fitted to the other tenths of the baseline.
    Rehearsed
        The windows with the jumps, by what will be in use.
    """
    mean, sd = values.mean(axis=0), values.std(axis=0)
    moving = sd > 1e-9 * np.maximum(np.abs(mean), 1e-300)
    sd = np.where(moving, sd, 1.0)
    y = np.where(moving, (values - mean) / sd, 0.0)
    n = len(y) - LONGEST_LAG
    design = _design(y)
    cuts = np.linspace(0, n, FOLDS + 1).astype(int)
    folds = [slice(a, b) for a, b in pairwise(cuts)]
    products = [design[:, fold].transpose(0, 2, 1) @ design[:, fold] for fold in folds]
    everything = np.sum(products, axis=0)
    innovations = np.empty((n, y.shape[1]))
    for fold, own in zip(folds, products, strict=True):
        intercept, coefficients = _autoregressions(everything - own, n - (fold.stop - fold.start))
        innovations[fold] = _innovations(y[fold.start : fold.stop + LONGEST_LAG], intercept, coefficients)
    intercept, coefficients = _autoregressions(everything, n)
    long_run = np.maximum(np.abs(innovations).mean(axis=0), 1e-12)
    scales, scale = _scales(innovations, long_run, long_run)
    scaled = innovations / scales
    scorer = _Scorer.fit(scaled, moving)
    scores = np.empty_like(scaled)
    for fold in folds:
        scores[fold] = _Scorer.fit(np.delete(scaled, fold, axis=0), scorer.moves).score(scaled[fold])

    filters = _filters(coefficients, window_sessions)
    first = first_rehearsed(window_sessions) * window_sessions - LONGEST_LAG
    null = JumpNull.of(scores, filters, first, strongest)
    whitening = Whitening(
        tuple(
            SeriesModel(
                mean=float(mean[j]),
                sd=float(sd[j]),
                intercept=float(intercept[j]),
                coefficients=tuple(coefficients[j].tolist()),
                newest=tuple(values[-LONGEST_LAG:, j].tolist()),
                scale=float(scale[j]),
                long_run_scale=float(long_run[j]),
                knots=tuple(scorer.knots[:, j].tolist()),
                below=tuple(scorer.below[:, j].tolist()),
                above=tuple(scorer.above[:, j].tolist()),
                moves=bool(scorer.moves[j]),
            )
            for j in range(y.shape[1])
        ),
        strongest,
        *null.tail(),
    )
    # A jump adds its signature to the innovations, and to their moving scale.
    windows = disjoint(innovations, first, window_sessions) + (planted / sd)[:, None] * _signature(
        coefficients, window_sessions
    )
    jumped = [
        scorer.score(window / _scales(window, scales[first + i * window_sessions], long_run)[0])
        for i, window in enumerate(windows)
    ]
    return whitening, null.rehearse(scores), null.rehearse(np.concatenate(jumped), first=0)


def first_rehearsed(window_sessions: int) -> int:
    """The first disjoint window of the baseline that has `LONGEST_LAG` sessions before it."""
    return -(-LONGEST_LAG // window_sessions)


# ---------------------------------------------------------------------------------------------- autoregression


def _design(y: Floats) -> Floats:
    """Shape (n_features, n_sessions - LONGEST_LAG, 2 + LONGEST_LAG): 1, the session, the sessions before it."""
    lagged = [y[LONGEST_LAG - lag : len(y) - lag] for lag in range(LONGEST_LAG + 1)]
    design = np.stack([np.ones_like(lagged[0]), *lagged], axis=-1).transpose(1, 0, 2)
    return np.ascontiguousarray(design)


def _autoregressions(products: Floats, n: int) -> tuple[Floats, Floats]:
    """Intercepts and coefficients by least squares, of the order with the lowest AIC, from sums of products."""
    n_features = len(products)
    lowest = np.full(n_features, np.inf)
    found = np.zeros((n_features, 1 + LONGEST_LAG))
    for order in ORDERS:
        if n < 5 * order:
            break
        columns = [0, *range(2, order + 2)]
        own = products[:, columns][:, :, columns]
        own = own + 1e-10 * n * np.eye(order + 1)  # a series that stands still has no coefficients
        crossed = products[:, columns, 1]
        solved = np.linalg.solve(own, crossed[:, :, None])[:, :, 0]
        residual = np.maximum(products[:, 1, 1] - (solved * crossed).sum(axis=1), 1e-12)
        criterion = n * np.log(residual) + 2.0 * order
        better = criterion < lowest
        lowest = np.where(better, criterion, lowest)
        found[better] = 0.0
        found[better, : order + 1] = solved[better]
    return found[:, 0], found[:, 1:]


def _innovations(y: Floats, intercept: Floats, coefficients: Floats) -> Floats:
    """What the sessions after the first `LONGEST_LAG` add to the forecast from those before."""
    left: Floats = y[LONGEST_LAG:] - intercept
    for lag in range(1, LONGEST_LAG + 1):
        left -= coefficients[:, lag - 1] * y[LONGEST_LAG - lag : len(y) - lag]
    return left


def _scales(innovations: Floats, start: Floats, long_run: Floats) -> tuple[Floats, Floats]:
    """Moving mean absolute innovation as it was known before each session, and after the last."""
    from scipy.signal import lfilter

    after, _ = lfilter(
        [1.0 - SCALE_DECAY], [1.0, -SCALE_DECAY], np.abs(innovations), axis=0, zi=SCALE_DECAY * start[None]
    )
    before = np.maximum(np.vstack([start[None], after[:-1]]), SMALLEST_SCALE * long_run)
    return before, after[-1]


# ------------------------------------------------------------------------------------------------ normal scores


@dataclass(frozen=True, eq=False)
class _Scorer:
    """Distribution of scaled innovations; arrays of shape (n_knots or n_degrees, n_features)."""

    knots: Floats
    below: Floats
    above: Floats
    moves: NDArray[np.bool_]

    @classmethod
    def fit(cls, scaled: Floats, moving: NDArray[np.bool_]) -> "_Scorer":
        knots = np.quantile(scaled, BODY, axis=0)
        moves = moving & (knots[0] < -1e-3) & (knots[-1] > 1e-3)
        below, above = (
            _tail_weights(sign * scaled, np.where(moves, sign * end, 1.0))
            for sign, end in ((-1.0, knots[0]), (1.0, knots[-1]))
        )
        return cls(knots, below, above, moves)

    def score(self, scaled: Floats) -> Floats:
        """Normal scores of the same sign and rank; 0 for a series that does not move."""
        from scipy.special import ndtri

        scores = np.zeros_like(scaled)
        normal = ndtri(BODY)
        for j in np.flatnonzero(self.moves):
            scores[:, j] = np.interp(scaled[:, j], self.knots[:, j], normal)
        for sign, end, weights in ((-1.0, self.knots[0], self.below), (1.0, self.knots[-1], self.above)):
            rows, columns = np.nonzero((sign * scaled > sign * end) & self.moves)
            ratio = scaled[rows, columns] / end[columns]
            chance = _tail_chance(ratio, weights[:, columns])
            scores[rows, columns] = -sign * ndtri(np.maximum(chance, 1e-300))
        return scores


@cache
def _student_quantile(degrees: float) -> float:
    from scipy.special import ndtri, stdtrit

    return float(ndtri(1.0 - TAIL_SHARE) if math.isinf(degrees) else stdtrit(degrees, 1.0 - TAIL_SHARE))


@cache
def _student_tails() -> Floats:
    """Log chance of more than e^(i `TAIL_STEP`) times the quantile at which the tail begins: (n_degrees, i)."""
    from scipy.special import log_ndtr, stdtr

    ratio = np.exp(TAIL_STEP * np.arange(math.ceil(math.log(MOST_RATIO) / TAIL_STEP) + 2))
    rows = []
    for degrees in TAIL_DEGREES:
        x = -_student_quantile(degrees) * ratio
        rows.append(log_ndtr(x) if math.isinf(degrees) else np.log(np.maximum(stdtr(degrees, x), 1e-300)))
    return np.array(rows)


def _tail_chance(ratio: Floats, weights: Floats) -> Floats:
    """Chance beyond ``ratio`` times the end of the body, for weights of shape (n_degrees, n): within .4 %."""
    position = np.log(np.minimum(ratio, MOST_RATIO)) / TAIL_STEP
    below = position.astype(np.int64)
    part = position - below
    tails = _student_tails()
    chance: Floats = (weights * np.exp(tails[:, below] * (1.0 - part) + tails[:, below + 1] * part)).sum(
        axis=0
    )
    return chance


def _tail_weights(values: Floats, ends: Floats) -> Floats:
    """Posterior of `TAIL_DEGREES` (all alike before), from the values beyond each end: (n_degrees, n_features)."""
    from scipy.special import gammaln

    rows, columns = np.nonzero(values > ends)
    ratio = values[rows, columns] / ends[columns]
    likelihood = np.empty((len(TAIL_DEGREES), values.shape[1]))
    for i, degrees in enumerate(TAIL_DEGREES):
        quantile = _student_quantile(degrees)
        x = ratio * quantile
        if math.isinf(degrees):
            density = -(x**2) / 2.0 - math.log(2.0 * math.pi) / 2.0
        else:
            constant = (
                gammaln((degrees + 1.0) / 2.0) - gammaln(degrees / 2.0) - math.log(degrees * math.pi) / 2.0
            )
            density = constant - (degrees + 1.0) / 2.0 * np.log1p(x**2 / degrees)
        # up to what is the same for all degrees
        likelihood[i] = np.bincount(columns, density + math.log(quantile), minlength=values.shape[1])
    weights = np.exp(likelihood - likelihood.max(axis=0))
    shares: Floats = weights / weights.sum(axis=0)
    return shares


# ------------------------------------------------------------------------------------------ what a jump leaves


def _signature(coefficients: Floats, n_sessions: int) -> Floats:
    """What a jump by 1 leaves in the innovations from its session on: (n_sessions, n_features)."""
    signature = np.ones((max(n_sessions, LONGEST_LAG + 1), len(coefficients)))
    signature[1:] -= coefficients.sum(axis=1)
    signature[1 : LONGEST_LAG + 1] = 1.0 - np.cumsum(coefficients, axis=1).T
    return signature[:n_sessions]


def _filters(coefficients: Floats, n_sessions: int) -> Floats:
    """Signature of a jump at each session, of length 1: (n_features, n_sessions, n_sessions)."""
    signature = _signature(coefficients, n_sessions).T
    filters = np.zeros((len(coefficients), n_sessions, n_sessions))
    for session in range(n_sessions):
        filters[:, session, session:] = signature[:, : n_sessions - session]
    unit: Floats = filters / np.sqrt((filters**2).sum(axis=2, keepdims=True))
    return unit
