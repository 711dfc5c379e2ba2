"""What the YAML files of ``configs/`` may say: frozen models with bounds.

Every model refuses unknown keys. `quant_assets.common.configuration` reads the files into them and turns a
violation into one message that names file, key, value and the closest valid key.
"""

from typing import Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from quant_assets.common.config_model import Config
from quant_assets.common.errors import ConfigurationError, FeatureError
from quant_assets.common.model_settings import (
    CatBoostConfig,
    EarlyStoppingConfig,
    LabelConfig,
    LightGBMConfig,
    ModelsConfig,
    StackerConfig,
    TuningConfig,
    WeightsConfig,
    XGBoostConfig,
)
from quant_assets.common.universe_settings import (
    BokehSource,
    CsvSource,
    DefectKind,
    Edge,
    ParquetSource,
    PlantedDefect,
    PlantedDrift,
    PostgresSource,
    QualityConfig,
    ReconciliationConfig,
    Source,
    SyntheticSource,
    UniverseConfig,
)


class ValidationConfig(Config):
    """Combinatorial purged cross-validation: N groups, k of them tested at a time."""

    n_groups: int = Field(default=6, ge=3, le=32)
    n_test_groups: int = Field(default=2, ge=1, le=31)
    embargo_sessions: int = Field(default=5, ge=0, le=252)

    @model_validator(mode="after")
    def _some_groups_train(self) -> Self:
        if self.n_test_groups >= self.n_groups:
            raise ValueError(f"n_test_groups {self.n_test_groups} must be below n_groups {self.n_groups}")
        return self


class CostConfig(Config):
    """Trading costs. Impact is square-root: coefficient x daily volatility x sqrt(trade / daily volume)."""

    commission_bps: float = Field(default=0.5, ge=0, le=1000)
    half_spread_bps: float = Field(default=1.0, ge=0, le=1000)
    impact_coefficient: float = Field(default=0.5, ge=0, le=10)
    capital: float = Field(default=10_000_000.0, gt=0, description="account currency")


class PortfolioConfig(Config):
    """How scores become positions.

    ``long_short`` holds centred cross-sectional ranks, ``long_only`` the ranks above the median; both sum to
    ``gross_leverage`` in absolute value. Targets are averaged over
    ``holding_sessions`` (overlapping tranches).
    """

    scheme: Literal["long_short", "long_only"] = "long_short"
    gross_leverage: float = Field(default=1.0, gt=0, le=10)
    holding_sessions: int = Field(default=5, ge=1, le=252)


class ArtifactsConfig(Config):
    """Optional artifacts: a distilled student network that INT8 quantisation can act on."""

    int8_student: bool = False


class ReportsConfig(Config):
    """Reports that take half a minute and decide nothing; a strategy may do without them."""

    importance: bool = Field(default=True, description="importance and diversity")
    inference_benchmark: bool = Field(default=True, description="which runtime is the fastest, by batch size")


class GateOverrides(Config):
    """Limits that one strategy sets for itself. They may only be stricter than ``gates.yaml``."""

    sharpe_min: float | None = None
    psr_min: float | None = None
    dsr_min: float | None = None
    max_drawdown_min: float | None = None
    pbo_max: float | None = None


class StrategyConfig(Config):
    """One strategy: a universe, features, labels, learners, and how they are judged."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{1,62}$")
    description: str = ""
    owner: str = "team:research"
    universe: str
    feature_packs: tuple[str, ...] = ("technical_v1",)
    seed: int = Field(default=7, ge=0)
    holdout_sessions: int = Field(default=63, ge=21, le=1000, description="newest, for monitoring")
    label: LabelConfig = LabelConfig()
    models: ModelsConfig = ModelsConfig()
    tuning: TuningConfig | None = None
    validation: ValidationConfig = ValidationConfig()
    portfolio: PortfolioConfig = PortfolioConfig()
    costs: CostConfig = CostConfig()
    artifacts: ArtifactsConfig = ArtifactsConfig()
    reports: ReportsConfig = ReportsConfig()
    gates: GateOverrides = GateOverrides()

    @model_validator(mode="after")
    def _objectives_fit_the_label(self) -> Self:
        self.models.check_label(self.label)
        return self

    @field_validator("tuning")
    @classmethod
    def _searches_what_is_fitted(
        cls, value: TuningConfig | None, info: ValidationInfo
    ) -> TuningConfig | None:
        if value is not None and "models" in info.data:  # else: models has an error of its own
            value.check_models(info.data["models"])
        return value

    @field_validator("feature_packs")
    @classmethod
    def _packs_go_together(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        # Only the declarations are read: the kernels, and numba with them, wait until a pack is computed.
        from quant_assets.features.selection import selected_packs

        try:
            selected_packs(names)
        except FeatureError as error:
            words = f"{error.expected} ({error.what}: {error.found}; {error.action})"
            raise PydanticCustomError("feature_packs", "{words}", {"words": words}) from error
        return names


# ----------------------------------------------------------------------------------------- gates, monitoring


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

    def for_strategy(self, overrides: GateOverrides) -> "GatesConfig":
        """These limits with one strategy's stricter ones in their place.

        Raises
        ------
        ConfigurationError
            When a limit of the strategy is looser than the shared one.
        """
        stricter = overrides.model_dump(exclude_none=True)
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


class DriftConfig(Config):
    """Drift of the newest window against the training window."""

    window_sessions: int = Field(default=63, ge=20, le=1000)
    alpha: float = Field(default=0.01, gt=0, lt=0.5)
    n_bins: int = Field(default=10, ge=4, le=100)
    min_drifted_features: int = Field(default=3, ge=1)


class RetrainingConfig(Config):
    """When drift becomes a retraining run."""

    cooldown_days: float = Field(default=5.0, ge=0)
    max_attempts: int = Field(default=3, ge=1, le=10)


class MonitoringConfig(Config):
    """Drift monitoring and the retraining policy."""

    drift: DriftConfig = DriftConfig()
    retraining: RetrainingConfig = RetrainingConfig()


class Settings(Config):
    """Everything that ``configs/`` says."""

    universes: dict[str, UniverseConfig]
    strategies: dict[str, StrategyConfig]
    gates: GatesConfig
    monitoring: MonitoringConfig

    def universe_of(self, strategy: StrategyConfig) -> UniverseConfig:
        """The universe that a strategy trades."""
        return self.universes[strategy.universe]


__all__ = [
    "ArtifactsConfig",
    "BokehSource",
    "CatBoostConfig",
    "Config",
    "CostConfig",
    "CsvSource",
    "DefectKind",
    "DriftConfig",
    "EarlyStoppingConfig",
    "Edge",
    "GateOverrides",
    "GatesConfig",
    "LabelConfig",
    "LightGBMConfig",
    "ModelsConfig",
    "MonitoringConfig",
    "ParquetSource",
    "PlantedDefect",
    "PlantedDrift",
    "PortfolioConfig",
    "PostgresSource",
    "QualityConfig",
    "ReconciliationConfig",
    "ReportsConfig",
    "RetrainingConfig",
    "Settings",
    "Source",
    "StackerConfig",
    "StrategyConfig",
    "SyntheticSource",
    "TuningConfig",
    "UniverseConfig",
    "ValidationConfig",
    "WeightsConfig",
    "XGBoostConfig",
]
