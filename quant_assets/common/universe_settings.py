"""What a universe file may say: symbols, calendar, dates, corporate actions, and how good the bars must be."""

import re
from collections import Counter
from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from quant_assets.common.config_model import Config
from quant_assets.common.listing_settings import MembersConfig, SpellSource
from quant_assets.common.roll_settings import RollsConfig
from quant_assets.common.source_settings import (
    MOST_SYMBOLS,
    AssetClass,
    Day,
    ReconciliationConfig,
    Source,
    Symbol,
    SyntheticSource,
    hide_passwords,
    hint_of,
)

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
    symbol that is left out as a whole do not count as rows. A fifth of the symbols and 2 % of the rows are the most:
    rules look at whole histories, so more would be a choice by outcome.
    """

    symbols: float = Field(default=MOST_SYMBOLS_ASIDE, ge=0, le=0.2, description="of the universe's symbols")
    rows: float = Field(default=MOST_ROWS_ASIDE, ge=0, le=0.02, description="of the feed's rows")

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


# Of exchanges that trade shares by day: no currency or coin keeps their sessions, nor a future that is not theirs.
SHARE_CALENDARS = frozenset({
    "XNYS", "NYSE", "NASDAQ", "XNAS", "XASE", "XTSE", "XLON", "LSE", "XETR", "XFRA", "XPAR", "XAMS", "XBRU", "XLIS",
    "XMIL", "XMAD", "XSWX", "XSTO", "XCSE", "XHEL", "XOSL", "XWAR", "XTKS", "XHKG", "XSHG", "XBOM", "XASX", "XKRX",
    "XTAI", "XSES", "BVMF", "XJSE",
})  # fmt: skip


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
    rolls: RollsConfig | None = Field(default=None, description="of futures: the symbols are contracts")
    multipliers: dict[Symbol, Annotated[float, Field(gt=0, le=1e7)]] = Field(
        default_factory=dict, description="value of one contract per point, by symbol or root"
    )
    sectors: dict[Symbol, Annotated[str, Field(min_length=1, max_length=64)]] = Field(
        default_factory=dict, max_length=MOST_SYMBOLS, description="which sector a name is in"
    )

    @field_validator("symbols", "exclude")
    @classmethod
    def _symbols_once(cls, symbols: tuple[str, ...] | None) -> tuple[str, ...] | None:
        repeated = sorted(name for name, times in Counter(symbols or ()).items() if times > 1)
        if repeated:
            raise ValueError(f"{', '.join(repeated[:5])} more than once")
        return symbols

    @model_validator(mode="after")
    def _contracts_or_listings(self) -> Self:
        if self.rolls is not None and self.listings is not None:
            raise ValueError("a universe has `rolls:` (of contracts) or `listings:` (of shares), not both")
        return self

    @model_validator(mode="after")
    def _dates_in_order(self) -> Self:
        if self.end <= self.start:
            raise ValueError(f"end {self.end} must come after start {self.start}")
        return self

    @model_validator(mode="after")
    def _an_asset_class_that_its_market_can_be(self) -> Self:
        """The class lowers what trading may cost and lets multipliers through: its market must be of that class."""
        plain = re.split(r"[+~]", self.calendar)[0].upper()
        if self.asset_class in ("fx", "crypto") and plain in SHARE_CALENDARS:
            raise ValueError(
                f"asset_class {self.asset_class} trades around the clock, calendar {plain} is that of a stock "
                "exchange: set `calendar: 24/5` (fx) or `24/7` (crypto), or leave `asset_class:` out"
            )
        if self.asset_class == "future" and self.rolls is None and plain in SHARE_CALENDARS:
            raise ValueError(
                f"asset_class future without `rolls:` on {plain}, the calendar of a stock exchange: name the "
                "contracts' own calendar (as CMES), declare their `rolls:`, or leave `asset_class:` out"
            )
        if self.asset_class != "equity" and self.listings is not None:
            raise ValueError(
                f"`listings:` are of shares, asset_class is {self.asset_class}: leave one of them out"
            )
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
                        f"{', '.join(names)}{hint_of(name, names)}"
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
