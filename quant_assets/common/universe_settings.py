"""What a universe file may say: where bars come from, which symbols, which calendar, which dates."""

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Config(BaseModel):
    """Root of all configuration models: frozen, strict about unknown keys, defaults validated."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


class BokehSource(Config):
    """Daily bars of AAPL, FB, GOOG, IBM, MSFT (2000 to 2013) from the package ``bokeh_sampledata``."""

    kind: Literal["bokeh_sampledata"]


class ParquetSource(Config):
    """A Parquet file or glob. ``columns`` maps our name to the file's where no known alias fits."""

    kind: Literal["parquet"]
    path: str = Field(min_length=1)
    columns: dict[str, str] = {}


class CsvSource(Config):
    """A CSV file or glob (plain or gzip). Without a symbol column, each file is one symbol: its stem."""

    kind: Literal["csv"]
    path: str = Field(min_length=1)
    columns: dict[str, str] = {}
    delimiter: str = Field(default=",", min_length=1, max_length=1)


class Edge(Config):
    """A learnable edge: log price carries a mean-reverting component on top of its random walk.

    ``transient_sd`` is the stationary standard deviation of that component (log price units), and
    ``half_life_sessions`` the time in which half of it decays (Poterba and Summers 1988, eq. 1 to 3).
    """

    transient_sd: float = Field(gt=0, le=0.2)
    half_life_sessions: float = Field(gt=0, le=250)


class PlantedDrift(Config):
    """From ``start`` on, volatility and volume are multiplied: a regime the baseline never saw."""

    start: date
    volatility_factor: float = Field(default=2.0, gt=0, le=10)
    volume_factor: float = Field(default=2.0, gt=0, le=100)


DefectKind = Literal[
    "null_close", "negative_price", "high_below_low", "duplicate_row", "missing_session",
    "stale_price", "unexplained_jump", "zero_volume",
]  # fmt: skip


class PlantedDefect(Config):
    """One defect put into a synthetic feed, to see it found. ``session`` counts from the feed's first."""

    kind: DefectKind
    symbol: int = Field(ge=0)
    session: int = Field(ge=1)


class SyntheticSource(Config):
    """A seeded geometric market with fat-tailed returns, optionally with an edge, a drift and defects."""

    kind: Literal["synthetic"]
    seed: int = Field(ge=0)
    n_symbols: int = Field(ge=1, le=2000)
    annual_volatility: float = Field(default=0.24, gt=0, le=3)
    market_share: float = Field(default=0.3, ge=0, le=1, description="share of variance from one factor")
    tail_degrees_of_freedom: float = Field(default=5.0, gt=2.1, le=100)
    edge: Edge | None = None
    drift: PlantedDrift | None = None
    defects: tuple[PlantedDefect, ...] = ()


Source = Annotated[BokehSource | ParquetSource | CsvSource | SyntheticSource, Field(discriminator="kind")]


class QualityConfig(Config):
    """Limits of the bar quality rules."""

    jump_fraction: float = Field(default=0.4, gt=0, le=1, description="|close to close| that is a jump")
    stale_sessions: int = Field(default=5, ge=2, description="unchanged OHLC in a row")
    ohlc_tolerance_fraction: float = Field(default=1e-4, ge=0, le=0.01)
    max_missing_fraction: float = Field(default=0.01, ge=0, le=1, description="missing sessions per symbol")


class UniverseConfig(Config):
    """A set of instruments: where their bars come from, which symbols, which calendar, which dates."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{1,62}$")
    description: str = ""
    source: Source
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

    @property
    def years(self) -> tuple[str, ...]:
        """Calendar years that the universe touches: the partitions of its raw bars."""
        return tuple(str(year) for year in range(self.start.year, self.end.year + 1))
