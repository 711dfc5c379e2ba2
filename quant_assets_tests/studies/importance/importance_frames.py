"""Folds of noise and of known edges, small enough to be judged hundreds of times."""

import numpy as np

from quant_assets.studies.importance.permutation import HeldOut


def noise_folds(seed, *, n_features=6, n_sessions=40, n_symbols=8, n_folds=2, edge=0.0):
    """Linear scores fitted by least squares to one half, tested on the other; features and outcomes persist.

    Features are autoregressive within a name (.95 a session), outcomes are moving sums over five sessions plus a
    drift of each name that lasts a whole fold: what makes naive floors of daily panels too low. Sessions whose
    outcomes overlap with the tested ones do not train.
    """
    rng = np.random.default_rng(seed)
    length = n_sessions * n_folds
    features = np.empty((length, n_symbols, n_features))
    features[0] = rng.standard_normal((n_symbols, n_features))
    for t in range(1, length):
        features[t] = 0.95 * features[t - 1] + np.sqrt(1 - 0.95**2) * rng.standard_normal(features[0].shape)
    daily = rng.standard_normal((length + 4, n_symbols))
    outcome = np.stack([daily[t : t + 5].sum(axis=0) for t in range(length)]) / np.sqrt(5)
    drift = 0.3 * rng.standard_normal((n_folds, n_symbols))
    outcome += np.repeat(drift, n_sessions, axis=0) + edge * features[:, :, 0]
    symbol = np.tile(np.arange(n_symbols), n_sessions)
    folds = []
    for fold in range(n_folds):
        inside = np.arange(length) // n_sessions == fold
        near = np.convolve(inside, np.ones(9), "same") > 0
        train_x = features[~near].reshape(-1, n_features)
        weights = np.linalg.lstsq(train_x, outcome[~near].ravel(), rcond=None)[0]
        folds.append(
            HeldOut(
                score=lambda x, w=weights: x.astype(np.float64) @ w,
                used=frozenset(range(n_features)),
                features=features[inside].reshape(-1, n_features).astype(np.float32),
                outcome=outcome[inside].ravel(),
                sessions=np.repeat(np.arange(length)[inside], n_symbols),
                symbol=symbol,
            )
        )
    return folds
