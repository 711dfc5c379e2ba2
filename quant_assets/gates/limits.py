"""The limits of all gates, as ``gates.yaml`` says them and as a strategy may tighten them."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from quant_assets.common.config_model import Config
from quant_assets.common.errors import ConfigurationError


class GatesConfig(Config):
    """Limits of every gate. Written so that a gate passes iff value >= limit (or <= where it says max)."""

    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    psr_standard: Literal["2012", "2025"] = "2012"
    sharpe_min: float = Field(default=1.2, description="annualised, net of costs, median over paths")
    psr_min: float = Field(default=0.95, ge=0, le=1)
    dsr_min: float = Field(default=0.95, ge=0, le=1)
    max_drawdown_min: float = Field(default=-0.20, ge=-1, le=0, description="fraction, worst decile of paths")
    pbo_max: float = Field(default=0.2, ge=0, le=1)
    baseline_max_sharpe_fall: float = Field(default=0.2, ge=0, description="annual, against a baseline file")
    parity_max_error_over_sd: float = Field(default=1e-3, gt=0, le=1)
    parity_min_rank_correlation: float = Field(default=0.9999, ge=0, le=1)
    parity_max_flipped_decisions: int = Field(default=0, ge=0)
    int8_min_rank_correlation: float = Field(default=0.99, ge=0, le=1, description="INT8 against its FP32")

    def for_strategy(self, overrides: Mapping[str, float]) -> "GatesConfig":
        """These limits with one strategy's stricter ones in their place.

        Raises
        ------
        ConfigurationError
            When a limit of the strategy is looser than the shared one.
        """
        stricter = dict(overrides)
        for key, value in stricter.items():
            limit = getattr(self, key)
            if not (value <= limit if key.endswith("_max") else value >= limit):
                raise ConfigurationError(
                    f"key 'gates.{key}' of a strategy",
                    expected=f"a limit at least as strict as the {limit} of gates.yaml",
                    found=str(value),
                    action="tighten it, or change gates.yaml for everyone in a reviewed commit",
                )
        return self.model_copy(update=stricter)
