"""Rows dealt out anew: within their session, and outcomes to other names and times."""

import numpy as np
from numpy.typing import NDArray

from quant_assets.validation.importance.sessions import CrossSections


def within_sessions(sections: CrossSections, keys: NDArray[np.float64]) -> NDArray[np.int64]:
    """For each row, another of its session (or itself): the k-th row takes the one with the k-th smallest key."""
    own = np.argsort(sections.number, kind="stable")
    drawn = np.lexsort((keys, sections.number))
    order = np.empty(len(keys), dtype=np.int64)
    order[own] = drawn
    return order


def relabelled_ranks(
    sections: CrossSections,
    symbol: NDArray[np.int64],
    outcome: NDArray[np.float64],
    generator: np.random.Generator,
    draws: int,
) -> NDArray[np.float64]:
    """Outcome ranks of other names and times, shape (n, draws): one relabelling and one rotation in each draw."""
    sizes, n_sessions = sections.sizes, sections.n_sessions
    starts = np.concatenate(([0], np.cumsum(sizes)))
    # Rows of a session in the order of their names, so that equal sets of names are relabelled alike.
    own = np.lexsort((symbol, sections.number))
    number = sections.number[own]
    place = np.arange(len(own)) - starts[number]
    ranks = sections.unit_ranks(outcome)
    balanced = len(np.unique(sizes)) == 1
    result = np.empty((len(own), draws))
    for draw in range(draws):
        keys = generator.random(int(symbol.max()) + 1)[symbol]
        drawn = np.lexsort((keys, sections.number))
        other = (number + int(generator.integers(n_sessions))) % n_sessions
        source = np.empty_like(own)
        source[own] = drawn[starts[other] + place % sizes[other]]
        # Cross-sections of another size are ranked again.
        result[:, draw] = ranks[source] if balanced else sections.unit_ranks(outcome[source])
    return result
