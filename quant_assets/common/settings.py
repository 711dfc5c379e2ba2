"""What the YAML files of ``configs/`` may say: frozen models with bounds.

Every model refuses unknown keys. `quant_assets.common.configuration` reads the files into them and turns a
violation into one message that names file, key, value and the closest valid key.
"""

import math
import re
from typing import Any, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from quant_assets.common.config_model import Config
from quant_assets.common.label_settings import LabelConfig
from quant_assets.common.model_settings import (
    CatBoostConfig,
    EarlyStoppingConfig,
    LightGBMConfig,
    ModelsConfig,
    StackerConfig,
    TuningConfig,
    WeightsConfig,
    XGBoostConfig,
)
from quant_assets.common.plugins import Plugin, make_importable
from quant_assets.common.portfolio_settings import ConstraintsConfig, PortfolioConfig
from quant_assets.common.source_settings import (
    MOST_SEED,
    ArrowSource,
    AssetClass,
    BokehSource,
    CsvSource,
    DefectKind,
    Edge,
    ExcelSource,
    ParquetSource,
    PlantedDefect,
    PlantedDrift,
    PluginSource,
    PostgresSource,
    ReconciliationConfig,
    Source,
    SyntheticSource,
)
from quant_assets.common.universe_settings import LAST_CLOSE, DelistingConfig, QualityConfig, UniverseConfig

# 45 groups by 2, or 12 by 6. The shipped 6 by 2 are 15.
MOST_SPLITS = 1000


class ValidationConfig(Config):
    """Combinatorial purged cross-validation: N groups, k of them tested at a time."""

    n_groups: int = Field(default=6, ge=3, le=32)
    n_test_groups: int = Field(default=2, ge=1, le=31)
    embargo_sessions: int = Field(default=5, ge=0, le=252)

    @model_validator(mode="after")
    def _some_groups_train(self) -> Self:
        if self.n_test_groups >= self.n_groups:
            raise ValueError(f"n_test_groups {self.n_test_groups} must be below n_groups {self.n_groups}")
        splits = math.comb(self.n_groups, self.n_test_groups)
        if splits > MOST_SPLITS:
            raise ValueError(f"{splits} splits, each a fit of every learner: at most {MOST_SPLITS} are made")
        return self


class CostConfig(Config):
    """Trading costs. Impact is square-root: coefficient x daily volatility x sqrt(trade / daily volume).

    Commission and half spread are basis points of what is traded, the borrow fee basis points a year of what is held
    short, by calendar days over 365. D'Avolio (2002, Journal of Financial Economics 66, 271) finds a value-weighted
    mean fee of 25 on US stocks, and 9 % of them above 100; the default is twice the mean, because names here weigh
    alike.

    Funding (of perpetuals, or carry of currencies) is basis points a year of what is held: long positions pay it and
    short ones receive it, a negative rate the other way round. It is one rate for all names and all years.

    ``model`` is a cost of the desk's own, on top of these and never in place of one.
    """

    commission_bps: float = Field(default=0.5, ge=0, le=1000)
    half_spread_bps: float = Field(default=1.0, ge=0, le=1000)
    impact_coefficient: float = Field(default=0.5, ge=0, le=10)
    borrow_fee_bps: float = Field(default=50.0, ge=0, le=10_000, description="a year, of short value")
    funding_bps: float = Field(default=0.0, ge=-10_000, le=10_000, description="a year, longs pay shorts")
    capital: float = Field(default=10_000_000.0, gt=0, le=1e15, description="account currency")
    model: Plugin | None = Field(default=None, description="a further cost, module:object")

    @property
    def code(self) -> tuple[str, ...]:
        """Code that it reaches by name, as ``module:object``."""
        return () if self.model is None else (self.model.reference,)

    @property
    def doubled(self) -> "CostConfig":
        """Every cost twice as high, for an account of the same size.

        Funding is a market's rate of either sign, no assumption about trading: twice of it may be a gift. What
        ``model`` charges is doubled where it is charged.
        """
        names = ("commission_bps", "half_spread_bps", "impact_coefficient", "borrow_fee_bps")
        return self.model_copy(update={name: 2.0 * getattr(self, name) for name in names})


class ArtifactsConfig(Config):
    """Optional artifacts: a distilled student network that INT8 quantisation can act on."""

    int8_student: bool = False


class ReportsConfig(Config):
    """Reports that take half a minute and decide nothing; a strategy may do without them."""

    importance: bool = Field(default=True, description="importance and diversity")
    inference_benchmark: bool = Field(default=True, description="which runtime is the fastest, by batch size")


class FurtherCheck(Plugin):
    """A desk's own check of one asset of its strategy."""

    asset: str = Field(pattern=r"^[a-z][a-z0-9_]{1,62}$")
    blocking: bool = Field(default=True, description="whether what comes after waits for it")


class StrategyConfig(Config):
    """One strategy: a universe, features, labels, learners, and how they are judged."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{1,62}$")
    description: str = ""
    owner: str = Field(
        default="team:research",
        pattern=r"^(team:[A-Za-z0-9_.-]{1,64}|[A-Za-z0-9_.+-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63}){1,4})$",
        description="team:NAME or an e-mail address: Dagster knows no other owners",
    )
    universe: str
    feature_packs: tuple[str, ...] = Field(
        default=("technical_v1",),
        max_length=64,
        description="names of packs, or module:object of a desk's own, with options as {use, options}",
    )
    seed: int = Field(default=7, ge=0, le=MOST_SEED)
    holdout_sessions: int = Field(default=63, ge=21, le=1000, description="newest, for monitoring")
    label: LabelConfig = LabelConfig()
    models: ModelsConfig = ModelsConfig()
    tuning: TuningConfig | None = None
    validation: ValidationConfig = ValidationConfig()
    portfolio: PortfolioConfig = PortfolioConfig()
    costs: CostConfig = CostConfig()
    artifacts: ArtifactsConfig = ArtifactsConfig()
    reports: ReportsConfig = ReportsConfig()
    gates: dict[str, float] = Field(default_factory=dict, description="stricter limits of its own")
    further_gates: tuple[Plugin, ...] = Field(default=(), max_length=32, description="of its own: they close")
    further_checks: tuple[FurtherCheck, ...] = Field(default=(), max_length=64)

    @field_validator("feature_packs", mode="before")
    @classmethod
    def _each_pack_is_one_text(cls, value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            return value
        return tuple(Plugin.model_validate(one).text if isinstance(one, dict) else one for one in value)

    @model_validator(mode="after")
    def _objectives_fit_the_label(self) -> Self:
        self.models.check_label(self.label)
        return self

    @model_validator(mode="after")
    def _sides_are_sized(self) -> Self:
        scheme = getattr(self.portfolio.scheme, "use", self.portfolio.scheme)
        if self.label.kind == "meta" and ":" not in str(scheme):
            raise PydanticCustomError(
                "label",
                "{expected}",
                {
                    "expected": "a sizing of your own in portfolio.scheme (module:object) with label.kind: meta: the "
                    "scores say whether the side of the primary rule is right, so a position is that side times a "
                    f"size; {scheme} ranks them as if each side were long"
                },
            )
        return self

    @field_validator("further_gates", "further_checks")
    @classmethod
    def _told_apart(cls, value: tuple[Plugin, ...]) -> tuple[Plugin, ...]:
        # As `quant_assets.gates.desk_gates.desk_name` makes a name of it.
        names = [(getattr(p, "asset", ""), re.sub(r"\W", "_", p.use.rpartition(":")[2])) for p in value]
        repeated = [name for name in names if names.count(name) > 1]
        if repeated:
            raise ValueError(f"two are called {repeated[0][1]!r}: rename the function of one of them")
        return value

    @property
    def plugins(self) -> dict[str, Plugin]:
        """Every plug-in that it names for trading and judging, by where it names it."""
        named = {"portfolio.scheme": self.portfolio.plugin, "costs.model": self.costs.model}
        many = {"further_gates": self.further_gates, "further_checks": self.further_checks}
        found = {where: plugin for where, plugin in named.items() if plugin is not None}
        return found | {f"{w}[{i}]": p for w, each in many.items() for i, p in enumerate(each)}

    @property
    def shaping_code(self) -> dict[str, str]:
        """Digests of the code that it names to fit learners and to trade their scores; empty where it names none."""
        # Here, because settings are read by commands that start without numbers.
        from quant_assets.common.provenance import closure_of_references

        make_importable()
        traded = (*self.portfolio.code, *self.costs.code)
        found = {plugin.text: plugin.digest for plugin in self.models.plugins()}
        return found | ({"trading": closure_of_references(*traded).digest} if traded else {})

    @field_validator("tuning")
    @classmethod
    def _searches_what_is_fitted(
        cls, value: TuningConfig | None, info: ValidationInfo
    ) -> TuningConfig | None:
        if value is not None and "models" in info.data:  # else: models has an error of its own
            value.check_models(info.data["models"])
        return value


# ----------------------------------------------------------------------------------------- monitoring


class RetrainingConfig(Config):
    """When drift becomes a retraining run."""

    cooldown_days: float = Field(default=5.0, ge=0)
    max_attempts: int = Field(default=3, ge=1, le=10)


__all__ = [
    "LAST_CLOSE",
    "ArrowSource",
    "ArtifactsConfig",
    "AssetClass",
    "BokehSource",
    "CatBoostConfig",
    "Config",
    "ConstraintsConfig",
    "CostConfig",
    "CsvSource",
    "DefectKind",
    "DelistingConfig",
    "EarlyStoppingConfig",
    "Edge",
    "ExcelSource",
    "FurtherCheck",
    "LabelConfig",
    "LightGBMConfig",
    "ModelsConfig",
    "ParquetSource",
    "PlantedDefect",
    "PlantedDrift",
    "PluginSource",
    "PortfolioConfig",
    "PostgresSource",
    "QualityConfig",
    "ReconciliationConfig",
    "ReportsConfig",
    "RetrainingConfig",
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
