"""From bars to features: one pass over the panel, symbol by symbol, then across the symbols of each session."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
from numpy import bool_, float64, int64
from numpy.typing import NDArray

from quant_assets.common.errors import FeatureError
from quant_assets.features.as_known import FOUND_WRONG, as_known
from quant_assets.features.bar_frames import COLUMNS as COLUMNS
from quant_assets.features.bar_frames import FIELDS as FIELDS
from quant_assets.features.bar_frames import PRICES as PRICES
from quant_assets.features.bar_frames import polars_of, refuse_duplicates
from quant_assets.features.desk_packs import DeskPack
from quant_assets.features.pack import Pack, find_pack
from quant_assets.features.recipe_features import recipe_features

if TYPE_CHECKING:
    import pandas as pd

# -------------------------------------------------------------------------------------------- bars as a panel


# Outside of these no price or volume is real, and inside of them no kernel can overflow or underflow.
PRICE_BOUNDS = (1e-9, 1e12)
VOLUME_BOUNDS = (0.0, 1e18)


@dataclass(frozen=True)
class Panel:
    """Bars ordered by symbol, then session.

    Parameters
    ----------
    symbol, session : polars.Series
        Keys, in row order.
    fields : tuple of float64 arrays
        Open, high, low, close, volume.
    starts : int64 array, shape (symbols + 1,)
        First row of each symbol, then the number of rows.
    """

    symbol: pl.Series
    session: pl.Series
    fields: tuple[NDArray[float64], ...]
    starts: NDArray[int64]

    @property
    def height(self) -> int:
        """Number of bars."""
        return self.symbol.len()


def panel_of(bars: pl.DataFrame) -> Panel:
    """Check bars and bring them into order.

    Raises
    ------
    FeatureError
        When a column is missing or has the wrong kind, the frame is empty, a value is null, not finite or
        out of bounds, or a symbol has two bars in one session.
    """
    frame = frame_of(bars)
    starts, ordered = _runs(frame)
    if not ordered:
        frame = _sorted(frame)
        starts, ordered = _runs(frame)
    if not ordered:
        refuse_duplicates(frame)
    fields = tuple(frame[name].to_numpy() for name in FIELDS)
    return Panel(frame["symbol"], frame["session"], fields, starts)


def _ordered(bars: pl.DataFrame) -> pl.DataFrame:
    """Checked bars by (symbol, session), with the times that say what was known of them where there are such."""
    panel = panel_of(bars)
    frame = pl.DataFrame([panel.symbol, panel.session]).with_columns(
        pl.Series(name, values) for name, values in zip(FIELDS, panel.fields, strict=True)
    )
    if FOUND_WRONG not in bars.columns:
        return frame
    times = bars.sort("symbol", "session").select("known_at", FOUND_WRONG)
    return frame.hstack(times.get_columns())


def frame_of(bars: pl.DataFrame) -> pl.DataFrame:
    """The columns of the contract with their types, in the given row order, every value checked."""
    frame = _typed(polars_of(bars))
    _refuse_bad_values(frame)
    return frame


def _typed(bars: pl.DataFrame) -> pl.DataFrame:
    missing = [name for name in COLUMNS if name not in bars.columns]
    if missing:
        raise FeatureError(
            "bars",
            expected=f"the columns {', '.join(COLUMNS)}",
            found=f"no {', '.join(missing)} among {', '.join(bars.columns)}",
            action="rename or add the missing columns",
        )
    schema = bars.schema
    for name, kind, good in (
        ("symbol", "text", schema["symbol"] in (pl.String, pl.Categorical, pl.Enum)),
        ("session", "dates", schema["session"] in (pl.Date, pl.Datetime)),
        *((name, "numbers", schema[name].is_numeric()) for name in FIELDS),
    ):
        if not good:
            raise FeatureError(
                f"column {name!r} of bars",
                expected=kind,
                found=f"dtype {schema[name]}",
                action=f"cast the column to {kind} first",
            )
    if bars.is_empty():
        raise FeatureError(
            "bars",
            expected="at least one row",
            found="an empty frame",
            action="check the source and its dates",
        )
    return bars.select(pl.col("symbol").cast(pl.String), "session", pl.col(FIELDS).cast(pl.Float64)).rechunk()


def _refuse_bad_values(frame: pl.DataFrame) -> None:
    for name in COLUMNS[:2]:
        if frame[name].null_count() > 0:
            _refuse_rows(frame, name, pl.col(name).is_null(), "a value in every row")
    from quant_assets.features.kernels.windows import all_between

    for name in FIELDS:
        low, high = VOLUME_BOUNDS if name == "volume" else PRICE_BOUNDS
        # NaN does not lie between two numbers: it is refused with the rest
        if frame[name].null_count() > 0 or not all_between(frame[name].to_numpy(), low, high):
            good = pl.col(name).is_between(low, high).fill_null(False)
            _refuse_rows(frame, name, ~good, f"finite numbers between {low:g} and {high:g}")


def _refuse_rows(frame: pl.DataFrame, name: str, bad: pl.Expr, expected: str) -> None:
    rows = frame.with_row_index("row").filter(bad)
    row = rows.row(0, named=True)
    raise FeatureError(
        f"column {name!r} of bars",
        expected=expected,
        found=f"{row[name]} for symbol {row['symbol']!r} in session {row['session']} (row {row['row']})"
        + (f" and {rows.height - 1} more" if rows.height > 1 else ""),
        action="correct or quarantine these bars first; nothing is filled here",
    )


def _runs(frame: pl.DataFrame) -> tuple[NDArray[int64], bool]:
    """First row of each run of one symbol, and whether runs and the sessions within them strictly ascend."""
    symbol = frame["symbol"]
    changed = (symbol[1:] != symbol[:-1]).arg_true().to_numpy()
    starts = np.concatenate(([0], changed.astype(int64) + 1, [frame.height]))
    symbols = symbol.gather(starts[:-1])
    if not (symbols[1:] > symbols[:-1]).all():
        return starts, False
    session = frame["session"].to_physical().to_numpy()
    later = session[1:] > session[:-1]
    later[starts[1:-1] - 1] = True
    return starts, bool(later.all())


def _sorted(frame: pl.DataFrame) -> pl.DataFrame:
    """Order by symbol, then session.

    Panels mostly arrive session by session. There a stable radix sort of 16-bit symbol ranks is enough: 0.1 s
    where sorting by two columns takes 0.3 s (1.26 million rows).
    """
    symbols = frame["symbol"].unique().sort()
    if len(symbols) > np.iinfo(np.uint16).max:
        return frame.sort("symbol", "session")
    if not frame["session"].is_sorted():
        frame = frame.sort("session")
    ranks = frame["symbol"].cast(pl.Enum(symbols)).to_physical().to_numpy().astype(np.uint16)
    return frame[np.argsort(ranks, kind="stable")]


# -------------------------------------------------------------------------------------- from bars to features


Precision = Literal["float32", "float64"]

# Below this many rows one thread finishes before a second one has started (about 0.2 ms).
ROWS_PER_THREAD = 5_000
# More blocks than threads, so that a thread that was held up does not hold up the rest.
BLOCKS_PER_THREAD = 4


def compute(
    bars: "pl.DataFrame | pd.DataFrame",
    pack: str | Pack = "technical_v1",
    *,
    precision: Precision = "float32",
    mask: bool = True,
    threads: int | None = None,
) -> pl.DataFrame:
    """Compute a feature pack over a panel of bars.

    A symbol's features depend on its own consecutive bars only (sessions without a bar are not filled), and
    their bits on nothing else: not on the other symbols, the row order, the block or the number of threads.
    In a pack with a cross-section they also depend on the other symbols of the same session.

    Parameters
    ----------
    bars : polars.DataFrame or pandas.DataFrame
        Columns ``symbol, session, open, high, low, close, volume`` in any row order (of a pandas frame in its index
        too); others are ignored, but for
        ``found_wrong_at`` (`quant_assets.features.as_known`).
        Prices above 0 in one currency, adjusted for splits and dividends; volume at least 0.
    pack : str or Pack
        Registered name, or a pack itself.
    precision : {"float32", "float64"}
        Type of the feature columns. The arithmetic is float64 either way.
    mask : bool
        Null the rows of each feature's declared warm-up. False nulls only the rows for which the formula has
        no value (its lookback).
    threads : int, optional
        Upper limit; default: the processors this process may use.

    Returns
    -------
    polars.DataFrame
        ``symbol``, ``session`` and the features in the order of the pack, sorted by (symbol, session).
        Masked values are null; no other value is null, NaN or infinite. In a pack with a cross-section a
        session with fewer symbols than it declares is null too.

    Raises
    ------
    FeatureError
        When the pack is unknown, or the bars break the contract above.
    """
    chosen = find_pack(pack)
    check_precision(precision)
    bars = polars_of(bars)
    if isinstance(chosen, DeskPack):
        return recipe_features(_ordered(bars), chosen, precision=precision, mask=mask)
    if chosen.cross_section is not None:
        return compute_across(bars, chosen, precision=precision, mask=mask, threads=threads)
    if FOUND_WRONG in bars.columns:
        options: dict[str, Any] = {"precision": precision, "mask": mask, "threads": threads}
        return as_known(bars, lambda known: compute(known, chosen, **options))
    panel = panel_of(bars)
    out = np.empty((len(chosen.features), panel.height), dtype=precision)
    kernel = chosen.block_kernel()

    def run(first: int, last: int) -> None:
        kernel(*panel.fields, panel.starts, first, last, out)

    in_blocks(run, panel.starts, threads)
    return _frame(panel, chosen, out, mask=mask)


def check_precision(precision: str) -> None:
    """Refuse a precision in which no feature is computed, with a `FeatureError`."""
    if precision not in ("float32", "float64"):
        raise FeatureError(
            f"precision {precision!r}",
            expected="'float32' or 'float64'",
            found=repr(precision),
            action="choose one of the two",
        )


def in_blocks(run: Callable[[int, int], None], starts: NDArray[int64], threads: int | None) -> None:
    """Run symbols in contiguous blocks of about equal rows.

    Threads of our own around kernels that release the interpreter lock, not numba's `prange`: its OpenMP
    layer aborts a forked process and its workqueue layer aborts when two threads compute at once.
    """
    rows, symbols = int(starts[-1]), len(starts) - 1
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(threads or available, symbols, max(1, rows // ROWS_PER_THREAD))
    if workers == 1:
        run(0, symbols)
        return
    targets = np.linspace(0, rows, workers * BLOCKS_PER_THREAD + 1)
    edges = np.unique(np.searchsorted(starts, targets)).tolist()
    with ThreadPoolExecutor(workers, thread_name_prefix="features") as pool:
        for done in [pool.submit(run, a, b) for a, b in pairwise(edges)]:
            done.result()


def _frame(panel: Panel, pack: Pack, out: NDArray[Any], *, mask: bool) -> pl.DataFrame:
    """Wrap the matrix as columns without copying it; features with the same margin share their validity bits."""
    import pyarrow as pa

    from quant_assets.features.kernels.windows import blank_leading, validity_bits

    lookbacks = np.array([feature.lookback for feature in pack.features], dtype=int64)
    blank_leading(out, panel.starts, lookbacks)
    kind = pa.float32() if out.dtype == np.float32 else pa.float64()
    validity: dict[int, Any] = {}
    columns = [panel.symbol, panel.session]
    for feature, values in zip(pack.features, out, strict=True):
        margin = feature.warm_up if mask else feature.lookback
        if margin not in validity:
            bits = np.full((panel.height + 7) // 8, 255, dtype=np.uint8)
            validity_bits(panel.starts, margin, bits)
            validity[margin] = pa.py_buffer(bits)
        array = pa.Array.from_buffers(kind, panel.height, [validity[margin], pa.py_buffer(values)])
        columns.append(pl.Series(feature.name, array))
    return pl.DataFrame(columns)


# -------------------------------------------------------------------------------------------- two-stage packs

# The stages are separate functions, so that a panel larger than memory can be computed with `symbol_inputs` on
# blocks of symbols, brought together by session, and finished with `across_symbols` on blocks of sessions. The
# bits are those of `compute` over the whole panel, whatever the blocks.


KEYS = ("symbol", "session")


def symbol_inputs(
    bars: pl.DataFrame, pack: str | Pack, *, mask: bool = True, threads: int | None = None
) -> pl.DataFrame:
    """First stage: what the cross-section compares, for a block of symbols with all their bars.

    Parameters
    ----------
    bars : polars.DataFrame
        As for `quant_assets.features.compute`; the whole history of each of its symbols.
    pack : str or Pack
        A pack with a cross-section.
    mask, threads
        As for `compute`.

    Returns
    -------
    polars.DataFrame
        ``symbol``, ``session`` and the inputs in float64, null where masked, sorted by (symbol, session).

    Raises
    ------
    FeatureError
        When the pack has no cross-section, or the bars break the contract.
    """
    chosen = find_pack(pack)
    chosen.stage_across()
    return compute(bars, chosen.input_pack, precision="float64", mask=mask, threads=threads)


def across_symbols(
    inputs: pl.DataFrame,
    pack: str | Pack,
    *,
    precision: Precision = "float32",
    threads: int | None = None,
) -> pl.DataFrame:
    """Second stage: features across symbols, for a block of sessions with all their symbols.

    A symbol takes part in a session when it has a row there and the inputs of the feature are not null. With
    fewer than the declared number of symbols taking part the feature is null.

    Parameters
    ----------
    inputs : polars.DataFrame
        What `symbol_inputs` gave, in any row order. Every symbol of a session must be there: a part of a
        session is another cross-section, and nothing in the data tells.
    pack : str or Pack
        The same pack.
    precision : {"float32", "float64"}
        Type of the feature columns.
    threads : int, optional
        Upper limit; default: the processors this process may use.

    Returns
    -------
    polars.DataFrame
        ``symbol``, ``session`` and the features in the order of the pack, sorted by (symbol, session).

    Raises
    ------
    FeatureError
        When the pack has no cross-section, an input is missing, not float64 or not finite, or a symbol has
        two rows in one session.
    """
    chosen = find_pack(pack)
    across = chosen.stage_across()
    step = chosen.cross_section_step()
    names = [feature.name for feature in across.inputs]
    _refuse_bad_inputs(inputs, names, chosen.name)
    order = _Order.of(inputs)
    by_session = order.by_symbol[order.by_session]
    values = np.empty((len(names), inputs.height))
    for row, name in zip(values, names, strict=True):
        row[:] = inputs[name].to_numpy()[by_session]
    out = np.full((len(chosen.features), inputs.height), np.nan, dtype=precision)

    def run(first: int, last: int) -> None:
        step(values, order.starts, first, last, across.min_symbols, out)

    in_blocks(run, order.starts, threads)
    present = dict(zip(names, ~np.isnan(values), strict=True))
    back = np.empty_like(order.by_session)
    back[order.by_session] = np.arange(inputs.height)
    keys = inputs.select(KEYS)[order.by_symbol]
    columns = [keys["symbol"], keys["session"]]
    for feature, read, written in zip(chosen.features, across.reads, out, strict=True):
        valid = _taking_part([present[name] for name in read], order.starts, across.min_symbols)
        columns.append(_column(feature.name, written[back], valid[back]))
    return pl.DataFrame(columns)


def compute_across(
    bars: pl.DataFrame, pack: Pack, *, precision: Precision, mask: bool, threads: int | None
) -> pl.DataFrame:
    """Both stages over a whole panel; `quant_assets.features.compute` calls it for packs that have two."""
    inputs = symbol_inputs(bars, pack, mask=mask, threads=threads)
    return across_symbols(inputs, pack, precision=precision, threads=threads)


@dataclass(frozen=True)
class _Order:
    """Row orders of a panel.

    ``by_symbol`` orders rows by (symbol, session); ``by_session`` takes that order to (session, symbol);
    ``starts`` is the first row of each session in it, then the number of rows.
    """

    by_symbol: NDArray[int64]
    by_session: NDArray[int64]
    starts: NDArray[int64]

    @classmethod
    def of(cls, frame: pl.DataFrame) -> "_Order":
        symbols = frame["symbol"].cast(pl.String)
        code = symbols.cast(pl.Enum(symbols.unique().sort())).to_physical().to_numpy()
        day = frame["session"].to_physical().to_numpy()
        by_symbol = np.arange(frame.height)
        if not _ascending(code, day).all():
            by_symbol = np.lexsort((day, code))
            code, day = code[by_symbol], day[by_symbol]
            if not (distinct := _ascending(code, day)).all():
                row = frame.row(int(by_symbol[int(np.argmin(distinct))]), named=True)
                raise FeatureError(
                    "inputs of the cross-section",
                    expected="one row per symbol and session",
                    found=f"more for symbol {row['symbol']!r} in session {row['session']}",
                    action="pass each block of symbols once",
                )
        days, counts = np.unique(day, return_counts=True)
        ranks = np.searchsorted(days, day)
        # numpy sorts 16 bits by radix: 9 times as fast as a stable sort of 64
        narrow = ranks.astype(np.uint16) if days.size <= np.iinfo(np.uint16).max else ranks
        by_session = np.argsort(narrow, kind="stable")
        return cls(by_symbol, by_session, np.concatenate(([0], np.cumsum(counts, dtype=int64))))


def _ascending(code: NDArray[Any], day: NDArray[Any]) -> NDArray[bool_]:
    """Whether each row but the first comes after the one before it."""
    same = code[1:] == code[:-1]
    return np.asarray((code[1:] > code[:-1]) | (same & (day[1:] > day[:-1])), dtype=bool_)


def _taking_part(present: list[NDArray[bool_]], starts: NDArray[int64], minimum: int) -> NDArray[bool_]:
    """Rows with all inputs, in sessions that have enough of them."""
    valid = np.logical_and.reduce(present)
    enough = np.add.reduceat(valid, starts[:-1], dtype=int64) >= minimum
    return np.asarray(valid & np.repeat(enough, np.diff(starts)), dtype=bool_)


def _column(name: str, values: NDArray[Any], valid: NDArray[bool_]) -> pl.Series:
    """A column whose masked values are null. A NaN of the step stays one, for the prover to find."""
    import pyarrow as pa

    return pl.Series(name, pa.array(np.where(valid, values, np.nan), mask=~valid, from_pandas=False))


def _refuse_bad_inputs(frame: pl.DataFrame, names: list[str], pack: str) -> None:
    missing = [name for name in (*KEYS, *names) if name not in frame.columns]
    if missing or frame.is_empty():
        raise FeatureError(
            f"inputs of feature pack {pack!r}",
            expected=f"rows with the columns {', '.join((*KEYS, *names))}",
            found=f"no {', '.join(missing)}" if missing else "an empty frame",
            action="pass what symbol_inputs gave",
        )
    for name in names:
        kind = frame.schema[name]
        if kind != pl.Float64 or not frame[name].is_finite().all():
            raise FeatureError(
                f"input {name!r} of feature pack {pack!r}",
                expected="finite float64 values, null where masked",
                found=f"dtype {kind}" if kind != pl.Float64 else "NaN or infinity",
                action="pass what symbol_inputs gave, not rounded or filled",
            )
