"""The guard in front of every consumer of features: a masked value is not a value."""

from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from quant_assets.common.errors import FeatureError
from quant_assets.features.pack import Pack, find_pack

# --------------------------------------------------------------------------------------------------
# The packs that a strategy chooses, and their columns side by side.
#
# Read with the configuration, so it imports neither numba nor a kernel.


KEYS = ("symbol", "session")


def selected_packs(names: Sequence[str]) -> tuple[Pack, ...]:
    """The packs of these names, in order, fit to stand side by side in one training set.

    Parameters
    ----------
    names : sequence of str
        Names with their version, as in ``technical_v1``.

    Raises
    ------
    FeatureError
        No name, a repeated or unknown one (the message offers the closest), or a column that two packs hold.
    """
    repeated = sorted({name for name in names if list(names).count(name) > 1})
    if repeated or not names:
        raise FeatureError(
            "feature packs",
            expected="one or more packs, each named once",
            found=f"{', '.join(repeated)} more than once" if repeated else "none",
            action="name each pack once",
        )
    chosen = tuple(find_pack(name) for name in names)
    _refuse_shared_columns((pack.name, pack.names) for pack in chosen)
    return chosen


def joined_names(names: Sequence[str]) -> tuple[str, ...]:
    """Feature columns of these packs, pack by pack: the inputs of a model, in order.

    Raises
    ------
    FeatureError
        As `selected_packs`.
    """
    return tuple(column for pack in selected_packs(names) for column in pack.names)


def join_packs(frames: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Put the features of several packs over the same bars side by side.

    Parameters
    ----------
    frames : mapping of str to polars.DataFrame
        By pack name: ``symbol, session`` and the features, as `quant_assets.features.compute` returns them.

    Returns
    -------
    polars.DataFrame
        ``symbol, session`` and the columns of each pack in turn. Masked values stay null.

    Raises
    ------
    FeatureError
        No frame, a column that two packs hold, or packs that were computed over different bars.
    """
    if not frames:
        raise FeatureError(
            "feature packs", expected="one or more", found="none", action="pass the features of each pack"
        )
    _refuse_shared_columns(
        (name, [c for c in frame.columns if c not in KEYS]) for name, frame in frames.items()
    )
    (first, joined), *others = frames.items()
    keys = joined.select(KEYS)
    for name, frame in others:
        if not frame.select(KEYS).equals(keys):
            theirs = frame.select(KEYS)
            lonely = (
                keys.join(theirs, on=KEYS, how="anti").height,
                theirs.join(keys, on=KEYS, how="anti").height,
            )
            raise FeatureError(
                f"features of the packs {first} and {name}",
                expected="one row per bar of the same panel in both, in the same order",
                found=f"{keys.height} and {theirs.height} rows; {lonely[0]} only in {first}, "
                f"{lonely[1]} only in {name}",
                action="compute both packs over the same version of the bars",
            )
    return pl.concat([joined, *(frame.drop(KEYS) for _, frame in others)], how="horizontal")


def _refuse_shared_columns(columns: Iterable[tuple[str, Sequence[str]]]) -> None:
    held: dict[str, str] = {}
    for pack, names in columns:
        shared = [name for name in names if name in held]
        if shared:
            raise FeatureError(
                f"feature packs {held[shared[0]]} and {pack}",
                expected="packs without a column in common: a model tells its inputs apart by name",
                found=f"{', '.join(shared)} in both",
                action=f"choose one of {held[shared[0]]} and {pack}",
            )
        held |= dict.fromkeys(names, pack)


# --------------------------------------------------------------------------------------------------


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
