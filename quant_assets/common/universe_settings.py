"""What a universe file may say: where bars come from, which symbols, which calendar, which dates."""

from datetime import date
from typing import Any, Self

from pydantic import Field, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from quant_assets.common.config_model import Config as Config
from quant_assets.common.quality_settings import QualityConfig as QualityConfig
from quant_assets.common.source_settings import ReconciliationConfig, Source, closest, hide_passwords


class UniverseConfig(Config):
    """A set of instruments: where their bars come from, which symbols, which calendar, which dates."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{1,62}$")
    description: str = ""
    source: Source
    alternatives: tuple[Source, ...] = Field(default=(), max_length=8, description="in order of preference")
    reconciliation: ReconciliationConfig = ReconciliationConfig()
    symbols: tuple[str, ...] | None = None
    calendar: str = "XNYS"
    start: date
    end: date
    quality: QualityConfig = QualityConfig()

    @model_validator(mode="after")
    def _dates_in_order(self) -> Self:
        if self.end <= self.start:
            raise ValueError(f"end {self.end} must come after start {self.start}")
        return self

    @model_validator(mode="after")
    def _sources_told_apart(self) -> Self:
        names = [source.name for source in (self.source, *self.alternatives)]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"two sources are called {repeated[0]!r}: give each its own `label:`")
        for field, preferred in self.reconciliation.prefer.items():
            for name in preferred:
                if name not in names:
                    raise ValueError(
                        f"reconciliation.prefer.{field} names {name!r}, which is none of the sources "
                        f"{', '.join(names)}{closest(name, names)}"
                    )
        return self

    @model_validator(mode="wrap")
    @classmethod
    def _without_passwords(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        # A violation carries what it was given, and that may be the address of a database.
        try:
            return handler(data)
        except ValidationError as error:
            details = [
                InitErrorDetails(
                    type=found["type"],
                    loc=found["loc"],
                    input=hide_passwords(found["input"]),
                    ctx=found.get("ctx", {}),
                )
                for found in error.errors()
            ]
            raise ValidationError.from_exception_data(error.title, details) from None

    @property
    def sources(self) -> dict[str, Source]:
        """Every source by its label, in order of preference."""
        return {source.name: source for source in (self.source, *self.alternatives)}

    @property
    def years(self) -> tuple[str, ...]:
        """Calendar years that the universe touches: the partitions of its raw bars."""
        return tuple(str(year) for year in range(self.start.year, self.end.year + 1))
