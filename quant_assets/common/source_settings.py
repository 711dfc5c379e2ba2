"""What a universe file may say about where its bars come from."""

import difflib
import re
from datetime import date
from typing import Annotated, Any, Literal, Self
from zoneinfo import available_timezones

from pydantic import Field, SecretStr, field_validator, model_validator

from quant_assets.common.config_model import Config


class SourceConfig(Config):
    """What every kind of source may say. ``label`` is how reports and `ReconciliationConfig.prefer` call it."""

    label: str = Field(default="", pattern=r"^([a-z][a-z0-9_]{0,30})?$")

    @property
    def name(self) -> str:
        """The label, else the kind."""
        return self.label or str(getattr(self, "kind", ""))


class BokehSource(SourceConfig):
    """Daily bars of AAPL, FB, GOOG, IBM, MSFT (2000 to 2013) from the package ``bokeh_sampledata``."""

    kind: Literal["bokeh_sampledata"]


class ParquetSource(SourceConfig):
    """A Parquet file or glob. ``columns`` maps our name to the file's where no known alias fits."""

    kind: Literal["parquet"]
    path: str = Field(min_length=1)
    columns: dict[str, str] = Field(default_factory=dict)


class CsvSource(SourceConfig):
    """A CSV file or glob (plain or gzip). Without a symbol column, each file is one symbol: its stem."""

    kind: Literal["csv"]
    path: str = Field(min_length=1)
    columns: dict[str, str] = Field(default_factory=dict)
    delimiter: str = Field(default=",", min_length=1, max_length=1)


class PostgresSource(SourceConfig):
    """A table (or view) or a query of a Postgres database: exactly one of the two.

    Parameters
    ----------
    dsn : SecretStr
        ``postgresql://user:password@host:port/database``, in a file always as ``${VARIABLE}``. It is never part
        of a dump, a message or a version.
    table : str, optional
        ``table`` or ``schema.table``, with upper and lower case as in the database; a part that has a dot stands
        in double quotes.
    query : str, optional
        One SELECT; it runs as a subselect.
    columns : dict of str to str
        Our name to the database's where no known alias fits.
    time_zone : str, optional
        Needed where the session column is a ``timestamptz``: in whose days those instants are read.
    """

    kind: Literal["postgres"]
    dsn: SecretStr
    table: str | None = Field(default=None, pattern=r'^("[^"]+"|[^".]+)(\.("[^"]+"|[^".]+))?$')
    query: str | None = Field(default=None, min_length=1)
    columns: dict[str, str] = Field(default_factory=dict)
    time_zone: str | None = None

    @field_validator("time_zone")
    @classmethod
    def _known_time_zone(cls, name: str | None) -> str | None:
        if name is not None and name not in (known := available_timezones()):
            raise ValueError(f"no time zone of that name{closest(name, sorted(known))}")
        return name

    @model_validator(mode="after")
    def _table_or_query(self) -> Self:
        if (self.table is None) == (self.query is None):
            raise ValueError("exactly one of `table:` and `query:` must be set")
        return self


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
    "stale_price", "unexplained_jump", "zero_volume", "split_never_rebased", "price_spike", "decimal_slip",
]  # fmt: skip


class PlantedDefect(Config):
    """One defect put into a synthetic feed, to see it found. ``session`` counts from the feed's first."""

    kind: DefectKind
    symbol: int = Field(ge=0)
    session: int = Field(ge=1)


class SyntheticSource(SourceConfig):
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


Source = Annotated[
    BokehSource | ParquetSource | CsvSource | PostgresSource | SyntheticSource, Field(discriminator="kind")
]

BarField = Literal["open", "high", "low", "close", "volume", "adj_close"]


class ReconciliationConfig(Config):
    """How several sources of one universe become one panel.

    ``prefer`` puts, for single fields, the named sources first; otherwise `UniverseConfig.source` comes before
    its alternatives in their order. ``extend_history`` takes a symbol's sessions before the preferred source's
    first one from the others; without it they are left out, since exchanges give tickers of dead companies away
    again (FB was another company until 2003).
    """

    price_tolerance_bps: float = Field(default=50.0, gt=0, le=1000, description="prices this near agree")
    volume_tolerance_fraction: float = Field(
        default=0.05, gt=0, le=0.5, description="volumes this near agree"
    )
    max_stale_sessions: int = Field(default=5, ge=0, le=250, description="behind the freshest source")
    extend_history: bool = False
    prefer: dict[BarField, tuple[str, ...]] = Field(default_factory=dict)


_PASSWORD = re.compile(r"(?<=://)[^/@\s]*:[^\s]*@|(?<=password=)[^&\s]+", re.IGNORECASE)


def hide_passwords(value: Any) -> Any:
    """Plain data with the password of every database address in it replaced by ``***``."""
    if isinstance(value, str):
        return _PASSWORD.sub(lambda found: "***@" if found.group().endswith("@") else "***", value)
    if isinstance(value, dict):
        return {key: "***" if key == "dsn" else hide_passwords(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [hide_passwords(part) for part in value]
    return value


def closest(name: str, known: list[str]) -> str:
    """A question that ends a message: did you mean the known name that is nearest? Empty when none is near."""
    close = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {close[0]!r}?" if close else ""
