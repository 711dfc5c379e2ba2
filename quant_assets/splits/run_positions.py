"""Row positions out of runs of rows with equal words, compiled: numpy can only look at row after row again."""

import numba
import numpy as np

from quant_assets.splits.purging import IntArray, WordArray


@numba.njit(cache=True, nogil=True)
def positions_of(edges: IntArray, words: WordArray, mask: np.uint64, having: bool) -> IntArray:
    """Positions of the rows whose word has a bit of ``mask`` (where not ``having``: none), ascending.

    Parameters
    ----------
    edges : ndarray of int64, shape (n_runs + 1,)
        First row of each run, and the number of rows.
    words : ndarray of uint64, shape (n_runs,)
        The word of each run.
    mask : uint64
    having : bool
    """
    total = 0
    for run in range(words.size):
        if ((words[run] & mask) != 0) == having:
            total += edges[run + 1] - edges[run]
    found = np.empty(total, dtype=np.int64)
    filled = 0
    for run in range(words.size):
        if ((words[run] & mask) != 0) == having:
            first = edges[run]
            for row in range(edges[run + 1] - first):
                found[filled + row] = first + row
            filled += edges[run + 1] - first
    return found
