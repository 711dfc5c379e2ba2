"""What a universe file may say: where bars come from, symbols, calendar, dates, and how good the bars must be."""

import re
from collections import Counter
from datetime import date
from typing import Annotated, Any, Literal, Self
from zoneinfo import available_timezones

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from quant_assets.common.config_model import Config
from quant_assets.common.errors import closest
from quant_assets.common.listing_settings import Lives, MembersConfig, SpellSource

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
    """A CSV file or glob (plain or gzip). Without a symbol column, each file is one symbol: its stem.

    ``decimal`` and ``thousands`` are the marks in its numbers, for files that do not prove them by themselves.
    """

    kind: Literal["csv"]
    path: str = Field(min_length=1)
    columns: dict[str, str] = Field(default_factory=dict)
    delimiter: str = Field(default=",", pattern=r"^[,;|\t ]$")
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
        if name is not None and name not in (known := available_timezones()):
            raise ValueError(f"no time zone of that name{_hint(name, sorted(known))}")
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


AssetClass = Literal["equity", "future", "fx", "crypto"]

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


def _hint(name: str, known: list[str]) -> str:
    """What ends a sentence about an unknown name."""
    near = closest(name, known, cutoff=0.6)
    return f": {near}" if near else ""


# ---------------------------------------------------------------------------------------------------- quality


Severity = Literal["ERROR", "SET_ASIDE", "QUARANTINE", "WARN"]


class AcceptedBar(Config):
    """A bar that one rule finds suspicious and a person has found right, with the reason.

    Without ``session``, whatever the rule finds of the symbol: for rules about a symbol's whole history only.
    """

    symbol: Symbol
    session: Day | None = None
    rule: str
    reason: str = Field(min_length=10)


# 3 broken names of 100 do not stop the other 97; of 500 names drawn from 6,731 US ones, 3.4 are broken on average.
MOST_SYMBOLS_ASIDE = 0.05
FEWEST_FOR_ONE_ASIDE = (
    10  # symbols of which one may always go; below, one name is too large a part of the universe
)
MOST_ROWS_ASIDE = 0.001
MOST_OF_A_SYMBOL = 0.02  # broken rows of a symbol beyond which it is the symbol that is broken


class SetAside(Config):
    """How much of a feed may be broken and the rest still be used: fractions of its symbols and of its rows.

    What lies within is left out of the panel and listed, with the reason, in ``quarantined_bars``; beyond, the feed
    is refused. Of `FEWEST_FOR_ONE_ASIDE` symbols or more one may always go, unless ``symbols`` is 0. The rows of a
    symbol that is left out as a whole do not count as rows.
    """

    symbols: float = Field(default=MOST_SYMBOLS_ASIDE, ge=0, le=0.5, description="of the universe's symbols")
    rows: float = Field(default=MOST_ROWS_ASIDE, ge=0, le=0.1, description="of the feed's rows")

    def most_symbols(self, n_symbols: int) -> int:
        """How many of so many symbols may be set aside."""
        one = 1 if self.symbols > 0 and n_symbols >= FEWEST_FOR_ONE_ASIDE else 0
        return max(one, int(self.symbols * n_symbols + 1e-9))

    def most_rows(self, n_rows: int) -> int:
        """How many of so many rows may be set aside."""
        return int(self.rows * n_rows + 1e-9)


class QualityConfig(Config):
    """Severities and limits of the bar rules, and the bars that were looked at and accepted.

    Which limits there are, within which bounds, and what a severity may be, the rules themselves say:
    `quant_assets.market.rules.check_quality` holds this against them, `load_settings` does so for every file.
    """

    model_config = ConfigDict(extra="allow")

    severity: dict[str, Severity] = Field(default_factory=dict)
    accepted: tuple[AcceptedBar, ...] = ()
    set_aside: SetAside = SetAside()
    strict: bool = Field(default=False, description="nothing is set aside: one broken row refuses the feed")

    @property
    def limits(self) -> dict[str, Any]:
        """Every other key as it was written: the limits that are set, unchecked."""
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _accepted_once(self) -> Self:
        keys = [(bar.symbol, bar.session, bar.rule) for bar in self.accepted]
        twice = sorted(
            {
                f"{symbol}{'' if session is None else f' {session}'} {rule}"
                for symbol, session, rule in keys
                if keys.count((symbol, session, rule)) > 1
            }
        )
        if twice:
            raise ValueError(f"accepted more than once: {', '.join(twice)}")
        return self


# --------------------------------------------------------------------------------------------------- actions


def _ratio(value: Any) -> Any:
    """A ratio may be written as a fraction: 6/11."""
    parts = re.fullmatch(r"(\d{1,6})/(\d{1,6})", value) if isinstance(value, str) else None
    return int(parts[1]) / int(parts[2]) if parts and int(parts[2]) else value


class DeclaredAction(Config):
    """A corporate action as a person knows it; it stands in the place of what is inferred on its bar.

    ``ratio`` is new shares per old (2 for 2:1, "6/11" or 0.545...: six new for eleven old); ``amount`` is per new
    share in the money of the bars; ``price_factor`` multiplies every earlier price. ``kind: none`` says that there
    was no action.
    """

    symbol: Symbol
    session: Day
    kind: Literal["split", "dividend", "spin_off", "none"]
    ratio: Annotated[float, BeforeValidator(_ratio), Field(gt=0, le=10_000)] | None = None
    amount: float | None = Field(default=None, gt=0)
    price_factor: float | None = Field(default=None, gt=0, le=10_000)
    reason: str = Field(min_length=10)

    @model_validator(mode="after")
    def _what_its_kind_needs(self) -> Self:
        given = [name for name in ("ratio", "amount", "price_factor") if getattr(self, name) is not None]
        if self.kind == "none" and given:
            raise ValueError(f"`kind: none` says that there was no action: remove `{given[0]}:`")
        if self.kind == "split" and given != ["ratio"]:
            raise ValueError("a split needs `ratio:` (new shares per old) and nothing else")
        if self.kind in ("dividend", "spin_off") and given not in (["amount"], ["price_factor"]):
            raise ValueError(f"a {self.kind} needs exactly one of `amount:` and `price_factor:`")
        return self


class ActionsConfig(Config):
    """Declared corporate actions: a list in the YAML, a CSV or Parquet file with the same columns, or both.

    In YAML ``actions:`` is the list itself, or ``{path: FILE, listed: [...]}``.
    """

    path: str | None = Field(default=None, pattern=r"\.(csv|parquet)$")
    listed: tuple[DeclaredAction, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _list_alone(cls, data: Any) -> Any:
        return {"listed": data} if isinstance(data, list | tuple) else data

    @model_validator(mode="after")
    def _said_once(self) -> Self:
        kinds: dict[tuple[str, date], list[str]] = {}
        for action in self.listed:
            kinds.setdefault((action.symbol, action.session), []).append(action.kind)
        for (symbol, session), said in kinds.items():
            if len(set(said)) < len(said) or ("none" in said and len(said) > 1):
                raise ValueError(f"{symbol} {session} is declared more than once: {', '.join(said)}")
        return self


NO_ACTIONS_DECLARED = ActionsConfig()


# ----------------------------------------------------------------------------------------------- the universe


class DelistingConfig(Config):
    """What becomes of a name whose bars stop while the panel goes on.

    ``final_return`` is earned once, on the last close, by whoever holds the name then; the position leaves with
    costs. By default it is 0: sources of bars do not say why a name ended, most end in a takeover at about the last
    price, and any other number would be a gift to one side of the book. Where names die, Shumway (1997, Journal of
    Finance 52, 327) measures -0.30 for NYSE and AMEX, Shumway and Warther (1999, JF 54, 2361) -0.55 for Nasdaq.

    A name has ended when the panel has ``after_sessions`` sessions behind its last bar; until then it is halted, and
    its position is carried.
    """

    final_return: float = Field(default=0.0, ge=-1, le=1, description="fraction of the last close")
    after_sessions: int = Field(default=5, ge=1, le=60)


LAST_CLOSE = DelistingConfig()


class UniverseConfig(Config):
    """A set of instruments: where their bars come from, which symbols, which calendar, which dates.

    ``calendar`` is read with ``extra_sessions`` and ``closures`` in its name (``XBOM+2020-11-14~2021-05-13``), so
    that whoever is handed a calendar has them too.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{1,62}$")
    description: str = ""
    source: Source
    alternatives: tuple[Source, ...] = Field(default=(), max_length=8, description="in order of preference")
    reconciliation: ReconciliationConfig = ReconciliationConfig()
    symbols: tuple[Symbol, ...] | None = Field(default=None, min_length=1, max_length=MOST_SYMBOLS)
    exclude: tuple[Symbol, ...] = Field(default=(), max_length=MOST_SYMBOLS, description="not even looked at")
    asset_class: AssetClass = Field(default="equity", description="says what trading costs at least")
    calendar: str = Field(default="XNYS", pattern=r"^[A-Za-z0-9_/]{1,32}([+~]\d{4}-\d{2}-\d{2})*$")
    extra_sessions: tuple[Day, ...] = Field(
        default=(), max_length=500, description="days on which it trades and the calendar is closed"
    )
    closures: tuple[Day, ...] = Field(
        default=(), max_length=500, description="days on which it is closed and the calendar trades"
    )
    start: Day
    end: Day
    quality: QualityConfig = QualityConfig()
    actions: ActionsConfig = NO_ACTIONS_DECLARED
    delisting: DelistingConfig = LAST_CLOSE
    listings: SpellSource | None = Field(
        default=None, description="what each symbol was when, and how it ended"
    )
    memberships: SpellSource | None = Field(default=None, description="which names were in which group when")
    members: MembersConfig | None = None

    @field_validator("symbols", "exclude")
    @classmethod
    def _symbols_once(cls, symbols: tuple[str, ...] | None) -> tuple[str, ...] | None:
        repeated = sorted(name for name, times in Counter(symbols or ()).items() if times > 1)
        if repeated:
            raise ValueError(f"{', '.join(repeated[:5])} more than once")
        return symbols

    @model_validator(mode="after")
    def _dates_in_order(self) -> Self:
        if self.end <= self.start:
            raise ValueError(f"end {self.end} must come after start {self.start}")
        return self

    @model_validator(mode="after")
    def _members_of_something(self) -> Self:
        if self.members is not None and self.memberships is None:
            raise ValueError("`members:` needs `memberships:`, which says who was in the group when")
        return self

    @model_validator(mode="after")
    def _listings_of_one_place(self) -> Self:
        if self.listings is not None and self.lives is not None:
            raise ValueError("a synthetic source with `lives:` makes its own listings: leave `listings:` out")
        return self

    @model_validator(mode="after")
    def _calendar_with_its_changes(self) -> Self:
        both = sorted(set(self.extra_sessions) & set(self.closures))
        if both:
            raise ValueError(f"{both[0]} is in extra_sessions and in closures")
        plain = re.split(r"[+~]", self.calendar)[0]
        changes = [f"+{day}" for day in sorted(set(self.extra_sessions))]
        changes += [f"~{day}" for day in sorted(set(self.closures))]
        whole = plain + "".join(changes)
        if self.calendar not in (plain, whole):
            raise ValueError(f"calendar {self.calendar}: write its days as `extra_sessions:` and `closures:`")
        object.__setattr__(self, "calendar", whole)  # of a frozen model, as it is made
        return self

    @model_validator(mode="after")
    def _something_is_left(self) -> Self:
        if self.symbols is not None and not set(self.symbols) - set(self.exclude):
            raise ValueError("`exclude:` takes out every one of `symbols:`")
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
                        f"{', '.join(names)}{_hint(name, names)}"
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
                    type=PydanticCustomError(found["type"], "{said}", {"said": found["msg"]}),
                    loc=found["loc"],
                    input=hide_passwords(found["input"]),
                )
                for found in error.errors()
            ]
            raise ValidationError.from_exception_data(error.title, details) from None

    @property
    def lives(self) -> SyntheticSource | None:
        """The synthetic source whose names end, which then says so itself."""
        source = self.source
        return source if isinstance(source, SyntheticSource) and source.lives is not None else None

    @property
    def listed(self) -> bool:
        """Whether anything says what its symbols were when."""
        return self.listings is not None or self.lives is not None

    @property
    def sources(self) -> dict[str, Source]:
        """Every source by its label, in order of preference."""
        return {source.name: source for source in (self.source, *self.alternatives)}

    @property
    def years(self) -> tuple[str, ...]:
        """Calendar years that the universe touches: the partitions of its raw bars."""
        return tuple(str(year) for year in range(self.start.year, self.end.year + 1))
