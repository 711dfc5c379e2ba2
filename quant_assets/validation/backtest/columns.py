"""Which column of a file is which: the usual names of scores, returns and prices, and the caller's own."""

import re
from collections.abc import Mapping, Sequence

from quant_assets.common.errors import ValidationError
from quant_assets.market.contract import ALIASES as BAR_ALIASES

# Compared without case, spaces and punctuation, as the bar contract does.
ALIASES: dict[str, frozenset[str]] = {
    **{name: BAR_ALIASES[name] for name in ("symbol", "session")},
    "score": frozenset({"score", "prediction", "predictions", "pred", "yhat", "ypred", "signal", "alpha"}),
    "forward_return": frozenset(
        {
            "forwardreturn", "forwardreturns", "fwdreturn", "fwdret", "futurereturn", "nextreturn",
            "realizedreturn", "realisedreturn", "actualreturn",
        }
    ),
    **{name: BAR_ALIASES[name] for name in ("open", "close", "adj_close", "volume")},
    "market_cap": frozenset({"marketcap", "mktcap", "mcap", "marketcapitalization", "marketcapitalisation"}),
}  # fmt: skip
REQUIRED = ("symbol", "session", "score")
NUMBERS = tuple(name for name in ALIASES if name not in ("symbol", "session"))


def resolve_columns(
    columns: Sequence[str], *, origin: str, mapping: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Our name to the file's, for every column that the backtest can use.

    Parameters
    ----------
    columns : sequence of str
        Of the file.
    origin : str
        File, for messages.
    mapping : mapping of str to str, optional
        Our name to the file's, where no usual name fits. It wins over every alias.

    Raises
    ------
    ValidationError
        When a needed column is missing, two columns could be the same one, or ``mapping`` names no column.
    """
    found = dict(mapping or {})
    for ours, theirs in found.items():
        if ours not in ALIASES or theirs not in columns:
            raise ValidationError(
                f"{origin}: column option {ours}={theirs}",
                expected=f"one of {', '.join(ALIASES)} = a column of the file",
                found=f"columns {list(columns)}",
                action="correct the option",
            )
    for ours, aliases in ALIASES.items():
        if ours in found:
            continue
        candidates = [c for c in columns if _plain(c) in aliases and c not in found.values()]
        if len(candidates) > 1:
            raise ValidationError(
                f"{origin}: column {ours!r}",
                expected="one column that can be it",
                found=f"{' and '.join(map(repr, candidates))} among {list(columns)}",
                action=f"name the right one with --column {ours}={candidates[0]}",
            )
        if candidates:
            found[ours] = candidates[0]
    missing = [name for name in REQUIRED if name not in found]
    if not {"forward_return", "close"} & found.keys():
        missing.append("forward_return (or close)")
    if missing:
        raise ValidationError(
            f"{origin}: column {', '.join(missing)}",
            expected="symbol, session, score, and forward_return or close (or usual names for them)",
            found=f"columns {list(columns)}",
            action=f"rename it in the file, or pass --column {missing[0].split()[0]}=<name in the file>",
        )
    return {name: found[name] for name in ALIASES if name in found}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
