"""SHAP values of any model, by sampling: for learners whose trees nobody can walk through.

Strumbelj and Kononenko (2014), "Explaining prediction models and individual predictions with feature contributions",
Knowledge and Information Systems 41:647-665, algorithm 1, with each order of the features also walked backwards
(Mitchell, Cooper, Frank and Holmes 2022, "Sampling permutations for Shapley value estimation", JMLR 23:43).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

ORDERS = 8  # each forwards and backwards
SEED = 0


def sampled_contributions(
    predict: Callable[[NDArray[np.float32]], NDArray[np.float64]], features: NDArray[np.float32]
) -> tuple[NDArray[np.float64], float]:
    """What each feature adds to each prediction, against rows of the same matrix.

    Parameters
    ----------
    predict : callable, (n, f) -> (n,)
    features : ndarray of float32, shape (n, f)

    Returns
    -------
    values : ndarray of float64, shape (n, f)
        Each row sums to its prediction less ``base``, exactly. Same input, same values.
    base : float
        Mean prediction of the background rows.
    """
    n, width = features.shape
    generator = np.random.default_rng(SEED)
    background = features[np.linspace(0, n - 1, ORDERS).round().astype(np.int64)]
    values, base = np.zeros((n, width)), 0.0
    for row in background:
        order = generator.permutation(width)
        for walked in (order, order[::-1]):
            mixed = np.repeat(row[None], n, axis=0)
            before = predict(mixed)
            base += float(before[0])
            for column in walked:
                mixed[:, column] = features[:, column]
                after = predict(mixed)
                values[:, column] += after - before
                before = after
    walks = 2 * ORDERS
    return values / walks, base / walks
