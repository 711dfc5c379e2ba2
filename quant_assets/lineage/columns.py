"""What every column of a stored table is, and its unit, for whoever looks at an asset: one vocabulary for all stages.

A name means the same wherever it stands. Features say it themselves, in their pack; a column of a desk's own stage is
declared with `declare`.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from quant_assets.common.errors import ConfigurationError


class Column(NamedTuple):
    """One column: what it is, and what one unit of it is (``-`` for names and kinds)."""

    description: str
    unit: str


_PRICE = "currency of the listing"
_RETURN = "fraction of capital, a session"

_COLUMNS: dict[str, Column] = {
    "symbol": Column("Name of the instrument in the universe.", "-"),
    "session": Column("Trading day of the calendar.", "date"),
    "source": Column("Source that gave the row.", "-"),
    "open": Column("First price of the session.", _PRICE),
    "high": Column("Highest price of the session.", _PRICE),
    "low": Column("Lowest price of the session.", _PRICE),
    "close": Column("Last price of the session.", _PRICE),
    "adj_close": Column("Close as the vendor adjusted it; compared, never traded on.", _PRICE),
    "volume": Column("What was traded in the session.", "shares or contracts"),
    "price_factor": Column("What prices were multiplied by for later corporate actions.", "ratio"),
    "volume_factor": Column("What the volume was multiplied by for later corporate actions.", "ratio"),
    "known_at": Column("First moment at which the row could be known.", "UTC"),
    "known_on": Column("First day on which the row could be known.", "date"),
    "rule": Column("Rule that set the bar aside.", "-"),
    "observed": Column("What the rule measured.", "of the rule"),
    "limit": Column("What the rule allows.", "of the rule"),
    "evidence": Column("What the rule saw, in words.", "-"),
    "kind": Column("Kind of corporate action: split, dividend, roll.", "-"),
    "ratio": Column("New shares for an old one, or the new contract's price over the old one's.", "ratio"),
    "amount": Column("Cash that was paid for a share.", _PRICE),
    "t0": Column("When the outcome starts: the open at which a decision is filled.", "UTC"),
    "t1": Column("When the outcome ends.", "UTC"),
    "forward_return": Column("Return from t0 to t1.", "fraction of price"),
    "target": Column("What the model is fitted to: the label of the row.", "of the label"),
    "weight": Column("Weight of the row in a fit.", "ratio"),
    "path": Column("Number of the combinatorial path.", "-"),
    "gross_return": Column("Return of the book before costs.", _RETURN),
    "commission": Column("Commission that was paid.", _RETURN),
    "spread_cost": Column("Half spread that was paid.", _RETURN),
    "impact_cost": Column("Market impact of the trades.", _RETURN),
    "borrow_cost": Column("Borrowing of what is short.", _RETURN),
    "risk_free": Column("Interest on cash.", _RETURN),
    "net_return": Column("Return of the book after costs.", _RETURN),
    "net_return_at_twice_costs": Column("Return of the book after twice the costs.", _RETURN),
    "turnover": Column("What was bought and sold.", "fraction of capital, a session"),
    "root": Column("Future whose contracts are rolled.", "-"),
    "decided_on": Column("Session at whose close the roll was decided.", "date"),
    "from_contract": Column("Contract that is left.", "-"),
    "to_contract": Column("Contract that is entered.", "-"),
    "priced_on": Column("Session whose two closes give the ratio.", "date"),
    "close_from": Column("Close of the contract that is left.", _PRICE),
    "close_to": Column("Close of the contract that is entered.", _PRICE),
    "reason": Column("Why, in words.", "-"),
    "instrument_id": Column("The instrument, whatever it is called.", "-"),
    "exchange": Column("Where it is listed, as a MIC.", "-"),
    "group": Column("Index or other group of instruments.", "-"),
    "valid_from": Column("First day of the spell.", "date"),
    "valid_to": Column("Last day of the spell; empty while it lasts.", "date"),
    "end_kind": Column("How the listing ended: merger, bankruptcy, move, other or unknown.", "-"),
    "listed_until": Column("Last day on which it is listed.", "date"),
    "delisting_return": Column("Return of the last holder at the end of the listing.", "fraction of price"),
}
_PATTERNS: tuple[tuple[re.Pattern[str], Column], ...] = (
    (re.compile(r"path_\d+"), Column("Score of the path's model for the row, out of sample.", "score")),
)


def declare(name: str, column: Column) -> None:
    """Say what a column of a further stage is.

    Raises
    ------
    ConfigurationError
        When the name means something else already.
    """
    held = _COLUMNS.setdefault(name, column)
    if held != column:
        raise ConfigurationError(
            f"column {name!r}",
            expected=f"what it means elsewhere: {held.description}",
            found=column.description,
            action="choose another name",
        )


def column_of(name: str) -> Column | None:
    """What a column is; None for a name that nobody declared."""
    if name in _COLUMNS:
        return _COLUMNS[name]
    for pattern, column in _PATTERNS:
        if pattern.fullmatch(name):
            return column
    return _features().get(name)


def _features() -> Mapping[str, Column]:
    from quant_assets.features.pack import packs

    return {f.name: Column(f.formula, f.unit) for pack in packs().values() for f in pack.features}
