"""A candidate beside the linear baseline: what it adds over ridge on the same features, and how sure that is.

It is told beside the verdicts and decides nothing. It is no trial: the baseline follows from the candidate's training
set by a fixed rule, no choice is made by looking at it, and nobody can promote it. Whoever takes it up makes it a
strategy with a learner of ridge, whose evaluation is counted like any other; and the look that shows it is that of
the candidate, which was counted before.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from quant_assets.common.errors import EvidenceError
from quant_assets.statistics.sharpe_inference import COSINES, sharpe_difference
from quant_assets.trading.paths import median_path, path_statistics

COVERAGE = 0.95


@dataclass(frozen=True)
class LinearComparison:
    """A candidate and the linear baseline over the same sessions, net of the same costs.

    Attributes
    ----------
    candidate_sharpe, baseline_sharpe : float
        Annual, of the median path of each; NaN of one that does not vary.
    difference : float
        Candidate less baseline.
    low, high : float
        Ends of its 95 % interval (`quant_assets.statistics.sharpe_inference.sharpe_difference`). It allows for tails
        and for what the two have in common, not for how many candidates were tried.
    n_sessions : int
    """

    candidate_sharpe: float
    baseline_sharpe: float
    difference: float
    low: float
    high: float
    n_sessions: int

    def to_json(self) -> dict[str, Any]:
        """Plain data; None in place of what does not exist."""
        values = asdict(self).items()
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values}

    @property
    def sentence(self) -> str:
        """The comparison in one sentence."""
        if not math.isfinite(self.low):
            return (
                "Beside a linear model of the same features nothing can be said: one of the two never traded."
            )
        found = "more" if self.low > 0 else "less" if self.high < 0 else "not to be told from nothing"
        return (
            f"Over a linear model of the same features (ridge, net Sharpe ratio {self.baseline_sharpe:.2f}) the "
            f"candidate ({self.candidate_sharpe:.2f}) adds {self.difference:+.2f} a year, 95 % interval "
            f"{self.low:+.2f} to {self.high:+.2f}: {found}."
        )

    @classmethod
    def from_json(cls, data: Any) -> "LinearComparison":
        """Read stored figures back.

        Raises
        ------
        EvidenceError
            When a figure is missing.
        """
        try:
            names = ("candidate_sharpe", "baseline_sharpe", "difference", "low", "high")
            own, other, gap, low, high = (math.nan if data[n] is None else float(data[n]) for n in names)
            return cls(own, other, gap, low, high, int(data["n_sessions"]))
        except (KeyError, TypeError, ValueError) as error:
            raise EvidenceError(
                "comparison with the linear baseline",
                expected="two Sharpe ratios, their difference and its interval",
                found=f"{type(error).__name__}: {error}",
                action="materialise linear_baseline again",
            ) from error


def compare_with_linear(
    candidate: pl.DataFrame, baseline: pl.DataFrame, periods_per_year: float
) -> LinearComparison:
    """Compare the median paths of a candidate and of the linear baseline.

    Parameters
    ----------
    candidate, baseline : polars.DataFrame
        As made by `quant_assets.trading.paths.path_returns`, of the same sessions.
    periods_per_year : float

    Raises
    ------
    EvidenceError
        When the two differ in their sessions.
    ValidationError
        With fewer than 60 sessions.
    """
    from scipy.special import stdtrit

    sharpes, streams = [], []
    for returns in (candidate, baseline):
        median = median_path(path_statistics(returns, periods_per_year))
        chosen = returns.filter(pl.col("path") == median.path).sort("session")
        sharpes.append(median.sharpe_annual)
        streams.append(chosen)
    if not streams[0]["session"].equals(streams[1]["session"]):
        raise EvidenceError(
            "comparison with the linear baseline",
            expected="the same sessions in both",
            found=f"{streams[0].height} and {streams[1].height}",
            action="materialise cpcv_paths and linear_baseline from the same bars",
        )
    n, own, other = streams[0].height, *sharpes
    if not all(map(math.isfinite, sharpes)):
        return LinearComparison(own, other, math.nan, math.nan, math.nan, n)
    test = sharpe_difference(*(stream["net_return"].to_numpy() for stream in streams))
    quantile = float(stdtrit(int(COSINES * n ** (2.0 / 3.0)), (1 + COVERAGE) / 2))
    half = quantile * test.standard_error * math.sqrt(periods_per_year)
    gap = float(np.subtract(own, other))
    return LinearComparison(own, other, gap, gap - half, gap + half, n)
