"""A measured rate: successes of trials, with the exact interval for the probability behind them."""

from dataclasses import dataclass
from typing import Any

from quant_assets.common.errors import ValidationError

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Rate:
    """How often something happened in independent trials.

    Attributes
    ----------
    passes, trials : int
        Successes and trials, ``0 <= passes <= trials``, at least one trial.
    """

    passes: int
    trials: int

    def __post_init__(self) -> None:
        if not (self.trials >= 1 and 0 <= self.passes <= self.trials):
            raise ValidationError(
                "a rate",
                expected="at least one trial, and between 0 and all of them successful",
                found=f"{self.passes} of {self.trials}",
                action="count both over the same trials",
            )

    @property
    def estimate(self) -> float:
        """Share of trials that passed."""
        return self.passes / self.trials

    @property
    def interval(self) -> tuple[float, float]:
        """Two-sided 95 % interval of Clopper and Pearson (1934): exact, so it covers at least as often as it says."""
        from scipy.special import betaincinv

        tail = (1.0 - CONFIDENCE) / 2.0
        k, n = self.passes, self.trials
        low = float(betaincinv(k, n - k + 1, tail)) if k > 0 else 0.0
        high = float(betaincinv(k + 1, n - k, 1.0 - tail)) if k < n else 1.0
        return low, high

    def contains(self, probability: float) -> bool:
        """Whether the interval contains a probability; NaN lies in none."""
        low, high = self.interval
        return bool(low <= probability <= high)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        low, high = self.interval
        return {
            "passes": self.passes,
            "trials": self.trials,
            "estimate": self.estimate,
            "low": low,
            "high": high,
        }

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.estimate:.2%} [{low:.2%}, {high:.2%}]"
