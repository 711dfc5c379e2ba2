"""The guard in front of every consumer of features: what is masked, or no number, is read by nobody."""

from collections.abc import Sequence

import polars as pl

from quant_assets.common.errors import FeatureError


def require_unmasked(frame: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """Return the frame as it is, when every one of these features has a value in every row.

    Parameters
    ----------
    frame : polars.DataFrame
        Features of `quant_assets.features.compute`, with or without the keys ``symbol`` and ``session``.
    names : sequence of str
        The features that the caller is about to read.

    Raises
    ------
    FeatureError
        When one of them is missing, is no number, or holds a null (warming up, or too few symbols in the
        session), a NaN or an infinity. The message names the first such row of each and how many there are.
    """
    missing = [name for name in names if name not in frame.columns]
    if missing or not names:
        raise FeatureError(
            "features to read",
            expected="one or more columns of the frame",
            found=f"no column {', '.join(missing)}" if missing else "no name",
            action="compute the pack that declares them, or correct the names",
        )
    found = [text for name in names if (text := _masked(frame, name))]
    if found:
        raise FeatureError(
            f"{len(found)} of {len(names)} features",
            expected="a finite value in every row",
            found="; ".join(found[:3]) + (f"; and {len(found) - 3} more features" if len(found) > 3 else ""),
            action="drop the rows that warm up (drop_nulls), or start the history earlier; fill nothing in",
        )
    return frame


def _masked(frame: pl.DataFrame, name: str) -> str:
    """What is wrong with one column, or nothing."""
    if not frame.schema[name].is_numeric():
        return f"{name} of dtype {frame.schema[name]}"
    bad = ~pl.col(name).is_finite().fill_null(value=False)
    rows = frame.with_row_index("row").filter(bad)
    if rows.is_empty():
        return ""
    first = rows.row(0, named=True)
    where = (
        " ".join(str(first[key]) for key in ("symbol", "session") if key in first) or f"row {first['row']}"
    )
    what = "masked" if first[name] is None else str(first[name])
    return f"{name} {what} at {where} ({rows.height} of {frame.height} rows)"
