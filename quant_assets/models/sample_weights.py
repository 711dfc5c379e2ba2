"""Sample weights of a fit: from label times, and by a function of the desk's own that never sees an outcome."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.errors import ModelError
from quant_assets.common.plugins import Plugin


def custom_weights(plugin: Plugin, rows: pl.DataFrame) -> NDArray[np.float64]:
    """Weights of mean 1 by a plug-in.

    Parameters
    ----------
    plugin : Plugin
        A function of the rows and of its options.
    rows : polars.DataFrame
        Training rows of one fit: ``symbol`` (String), ``session`` (Date), ``t0``, ``t1`` (Datetime, UTC) and the
        features. No outcome is among them, and no row that is tested.

    Raises
    ------
    ModelError
        When the function fails, or gives anything but one finite weight >= 0 for each row, not all of them 0.
    """
    what = f"weights of {plugin.use!r}"
    function = plugin.load("a function of weights")
    try:
        found = np.asarray(function(rows, **plugin.options), dtype=np.float64)
    except Exception as error:  # a desk's function may raise anything
        raise _refused(what, "one weight a row", f"{type(error).__name__}: {error}") from error
    if found.shape != (rows.height,):
        raise _refused(what, f"shape ({rows.height},), one weight a row", f"shape {found.shape}")
    wrong = ~(np.isfinite(found) & (found >= 0))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise _refused(
            what, "finite weights >= 0", f"{found[row]} in row {row} ({int(wrong.sum())} such rows)"
        )
    if not found.any():
        raise _refused(what, "a weight above 0", f"{len(found)} zeros")
    weights: NDArray[np.float64] = found / found.mean()
    return weights


def weight_rows(
    symbols: NDArray[Any], sessions: NDArray[Any], t0: NDArray[Any], t1: NDArray[Any], features: pl.DataFrame
) -> pl.DataFrame:
    """What a plug-in of weights is given of the rows of a fit."""
    keys = pl.DataFrame({"symbol": symbols, "session": sessions, "t0": t0, "t1": t1}).with_columns(
        pl.col("session").cast(pl.Date), pl.col("t0", "t1").dt.replace_time_zone("UTC")
    )
    return keys.hstack(features.get_columns())


def _refused(what: str, expected: str, found: str) -> ModelError:
    return ModelError(
        what, expected=expected, found=found, action="correct the function that models.weights.custom names"
    )
