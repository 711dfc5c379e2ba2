"""What a universe may say about listings and memberships, and about the lives of the names of a synthetic market."""

from typing import Annotated, Literal

from pydantic import Field

from quant_assets.common.config_model import Config

# Columns of adjusted bars, where a listing says that a name has ended: on its last bar, null on every other. The last
# day on which it was listed, what its holder was paid on the last close (null: unknown) and since when that is known.
LISTED_UNTIL, DELISTING_RETURN, END_KNOWN_AT = "listed_until", "delisting_return", "end_known_at"


class SpellFile(Config):
    """A table with a row for each spell, CSV (plain or gzip) or Parquet.

    ``columns`` maps our names to the file's. Columns of listings: ``instrument_id, symbol, exchange, valid_from,
    valid_to, end_kind, delisting_return, known_at, source``; of memberships: ``group, instrument_id, valid_from,
    valid_to, known_at``. Other columns are not read.
    """

    kind: Literal["csv", "parquet"]
    path: str = Field(min_length=1)
    columns: dict[str, str] = Field(default_factory=dict)


class QlibFile(Config):
    """Lines of ``symbol start end``, as qlib's ``instruments`` folder has them; the file's stem is the group.

    A symbol is its own instrument, an exchange is not told, why a spell ended is unknown. Nor do such files say when
    a line was known: its start is taken to be known as its first day begins, its end once its last day is over.
    """

    kind: Literal["qlib"]
    path: str = Field(min_length=1)


SpellSource = Annotated[SpellFile | QlibFile, Field(discriminator="kind")]


class MembersConfig(Config):
    """Which group's members are scored and trained on."""

    group: str = Field(min_length=1, max_length=64)


class Lives(Config):
    """Names that end, halt, and leave their symbol to another company: rates a year, so a later end changes nothing.

    ``delisted_per_year`` and ``halted_per_year`` are the chances of a listed name to end or to be halted within a
    year (each symbol is halted once at most); ``reused`` is the share of ended names whose symbol another instrument,
    at another price level, takes 20 sessions later.
    """

    delisted_per_year: float = Field(ge=0, le=0.9)
    halted_per_year: float = Field(default=0.0, ge=0, le=0.9)
    halt_sessions: int = Field(default=10, ge=1, le=60)
    reused: float = Field(default=0.0, ge=0, le=1)
