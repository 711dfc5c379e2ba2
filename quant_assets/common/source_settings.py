"""What a universe file may say of where bars come from: symbols, sources, and how several sources become one."""

import re
from datetime import date
from typing import Annotated, Any, Literal, Self
from zoneinfo import available_timezones

from pydantic import (
    BeforeValidator,
    Field,
    JsonValue,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from quant_assets.common.config_model import Config
from quant_assets.common.errors import closest
from quant_assets.common.listing_settings import Lives
from quant_assets.common.plugins import Plugin

# ---------------------------------------------------------------------------------------------------- symbols


# What a symbol may be, in files and in configuration: no first character that a spreadsheet takes for a formula.
SYMBOL = r"^[A-Za-z0-9^][A-Za-z0-9._/=:&^+-]{0,31}$"
SYMBOL_RULE = "letters, digits and . _ / = : & ^ + - (first a letter, a digit or ^), at most 32"
# Bars of before have no exchange to speak of; later ones are no bars. Calendars know neither.
FIRST_SESSION, LAST_SESSION = date(1900, 1, 1), date(2100, 12, 31)
MOST_SYMBOLS = 20_000
MOST_SEED = 2**31 - 1  # the learners' libraries keep a seed in 32 bits


def _symbol(value: Any) -> Any:
    """YAML reads TRUE, NO, ON, NULL and 0700 as something else than the text that they are here."""
    if not isinstance(value, str):
        raise PydanticCustomError(
            "symbol",
            "a symbol as text: YAML reads TRUE, NO, ON, NULL and numbers as other things, so quote it",
        )
    if not re.match(SYMBOL, value) or value.endswith("\n"):
        raise PydanticCustomError("symbol", "a symbol of {rule}", {"rule": SYMBOL_RULE})
    return value


Symbol = Annotated[str, BeforeValidator(_symbol)]
Day = Annotated[date, Field(ge=FIRST_SESSION, le=LAST_SESSION)]


# ---------------------------------------------------------------------------------------------------- sources


def known_time_zone(name: str | None) -> str | None:
    """The name, when it is that of a time zone."""
    if name is not None and name not in (known := available_timezones()):
        raise ValueError(f"the name of a time zone, as Europe/London{hint_of(name, sorted(known))}")
    return name


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


class TableSource(SourceConfig):
    """What a file of any format may need said, because its cells do not prove it.

    Parameters
    ----------
    path : str
        A file or glob. Without a symbol column, each file is one symbol: its stem.
    columns : dict of str to str
        Our name to the file's where no known alias fits.
    date_format : str, optional
        How its dates are written, as ``%d/%m/%Y``: for files in which no date tells day from month.
    time_zone : str, optional
        In which zone times of day without one were written, when it is not the exchange's.
    resample : str, optional
        ``session``: bars of minutes or hours are put together to one bar of each regular session.
    """

    path: str = Field(min_length=1)
    columns: dict[str, str] = Field(default_factory=dict)
    date_format: str | None = Field(default=None, max_length=40)
    time_zone: str | None = None
    resample: Literal["session"] | None = None

    @field_validator("date_format")
    @classmethod
    def _a_whole_date(cls, form: str | None) -> str | None:
        if form is not None:
            marks = sorted(re.findall(r"%-?(.)", form))
            year, rest = [m for m in marks if m in "yY"], [m for m in marks if m not in "yY"]
            days, months = [m for m in rest if m in "de"], [m for m in rest if m in "mbB"]
            if len(marks) != 3 or not (len(year) == len(days) == len(months) == 1):
                raise ValueError("a day, a month and a year, as %d/%m/%Y, %m/%d/%Y or %d.%m.%y")
        return form

    @field_validator("time_zone")
    @classmethod
    def _known_time_zone(cls, name: str | None) -> str | None:
        return known_time_zone(name)


class ParquetSource(TableSource):
    """A Parquet file or glob."""

    kind: Literal["parquet"]


class ArrowSource(TableSource):
    """An Arrow file (Feather version 2) or glob."""

    kind: Literal["arrow"]


class ExcelSource(TableSource):
    """A workbook of Excel (xlsx) or glob, read by the extra ``excel``. ``sheet`` where several hold a table."""

    kind: Literal["excel"]
    sheet: str | None = Field(default=None, min_length=1, max_length=31)


class CsvSource(TableSource):
    """A delimited text file or glob: plain, gzip, or a zip file of one text file.

    ``delimiter`` is found in the header unless it is set. ``decimal`` and ``thousands`` are the marks in its numbers,
    for files that do not prove them by themselves.
    """

    kind: Literal["csv"]
    delimiter: str | None = Field(default=None, pattern=r"^[,;|\t ]$")
    decimal: Literal[".", ","] | None = None
    thousands: Literal[",", ".", " ", "'", ""] | None = None

    @model_validator(mode="after")
    def _marks_told_apart(self) -> Self:
        if self.thousands is not None and self.thousands == (self.decimal or "."):
            raise ValueError(
                "`decimal:` and `thousands:` must be two marks (`decimal:` is a point unless set)"
            )
        return self


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
        return known_time_zone(name)

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

    start: Day
    volatility_factor: float = Field(default=2.0, gt=0, le=10)
    volume_factor: float = Field(default=2.0, gt=0, le=100)


DefectKind = Literal[
    "null_close", "negative_price", "high_below_low", "duplicate_row", "missing_session",
    "stale_price", "unexplained_jump", "zero_volume", "split_never_rebased", "price_spike", "decimal_slip",
]  # fmt: skip


class PlantedDefect(Config):
    """One defect put into a synthetic feed, to see it found. ``session`` counts from the feed's first."""

    kind: DefectKind
    symbol: int = Field(ge=0, le=100_000)
    session: int = Field(ge=1, le=100_000)


class SyntheticSource(SourceConfig):
    """A seeded geometric market with fat-tailed returns, optionally with an edge, a drift, lives and defects."""

    kind: Literal["synthetic"]
    seed: int = Field(ge=0, lt=2**63)
    n_symbols: int = Field(ge=1, le=2000)
    annual_volatility: float = Field(default=0.24, gt=0, le=3)
    market_share: float = Field(default=0.3, ge=0, le=1, description="share of variance from one factor")
    tail_degrees_of_freedom: float = Field(default=5.0, gt=2.1, le=100)
    edge: Edge | None = None
    drift: PlantedDrift | None = None
    lives: Lives | None = None
    defects: tuple[PlantedDefect, ...] = ()


class PluginSource(SourceConfig):
    """A function of a desk's own: ``(symbols, start, end, **options)`` to a polars or pandas frame of bars.

    ``columns`` maps our name to the frame's where no known alias fits.
    """

    kind: Literal["plugin"]
    use: str = Field(min_length=1, max_length=200, description="module:object, or an entry point")
    options: dict[str, JsonValue] = Field(default_factory=dict, max_length=64)
    columns: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_an_object(self) -> Self:
        Plugin(use=self.use, options=self.options)
        return self

    @property
    def plugin(self) -> Plugin:
        """Its reference and options."""
        return Plugin(use=self.use, options=self.options)


AssetClass = Literal["equity", "future", "fx", "crypto"]

Source = Annotated[
    BokehSource
    | ParquetSource
    | ArrowSource
    | ExcelSource
    | CsvSource
    | PostgresSource
    | SyntheticSource
    | PluginSource,
    Field(discriminator="kind"),
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


def hint_of(name: str, known: list[str]) -> str:
    """What ends a sentence about an unknown name."""
    near = closest(name, known, cutoff=0.6)
    return f": {near}" if near else ""
