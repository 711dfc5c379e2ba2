import dataclasses

import numpy as np
import pytest
from scipy.stats import binom, spearmanr

from quant_assets.studies.importance.permutation import FAMILY_WISE_RATE, importances, losses
from quant_assets_tests.studies.importance.importance_frames import noise_folds

RUNS = 300
NAMES = tuple(f"x{c}" for c in range(6))
SINGLE = {name: (c,) for c, name in enumerate(NAMES)}


def judged(folds, groups=SINGLE, *, seed=5, names=NAMES, **options):
    return importances(losses(folds, groups, seed=seed, **options), list(groups), names)


def test_on_pure_noise_the_share_of_reports_with_any_feature_above_the_floor_is_at_most_the_stated_one():
    alarms = sum(
        any(g.above_floor for g in judged(noise_folds(seed), seed=seed, repeats=2, draws=99))
        for seed in range(RUNS)
    )
    assert 0 < alarms <= binom.interval(0.99, RUNS, FAMILY_WISE_RATE)[1]


def test_in_a_single_fold_the_share_is_the_stated_one():
    alarms = sum(
        any(g.above_floor for g in judged(noise_folds(seed)[:1], seed=seed, repeats=2, draws=99))
        for seed in range(RUNS)
    )
    low, high = binom.interval(0.99, RUNS, FAMILY_WISE_RATE)
    assert low <= alarms <= high


def test_a_feature_with_an_edge_is_above_the_floor_and_the_noise_beside_it_is_not():
    first, *others = judged(noise_folds(1, edge=0.5, n_symbols=20))
    assert first.above_floor
    assert first.importance > first.floor
    assert first.importance - 2 * first.error > 0
    assert not any(g.above_floor for g in others)


def test_a_loss_is_the_fall_of_spearmans_correlation_averaged_over_sessions():
    fold = noise_folds(2, n_symbols=7, edge=0.4)[0]
    # A shuffled constant is itself; the score of a model that reads x0 alone then loses all of it.
    only = dataclasses.replace(fold, score=lambda x: x[:, 0].astype(float), used=frozenset({0}))
    found = losses([only], {"x0": (0,), "x1": (1,)}, seed=1, repeats=400)
    by_session = [
        spearmanr(only.features[only.sessions == s, 0], only.outcome[only.sessions == s]).statistic
        for s in np.unique(only.sessions)
    ]
    assert found.rank_ic == pytest.approx(by_session, abs=1e-12)
    # Shuffled ranks are uncorrelated with the outcome: the loss is the whole rank IC, up to 400 shuffles' noise.
    assert found.by_session[0].mean() == pytest.approx(np.mean(by_session), abs=0.01)
    assert not found.by_session[1].any()


def test_a_duplicate_hides_a_feature_from_single_shuffles_and_not_from_that_of_the_cluster():
    folds = noise_folds(3, edge=0.6, n_symbols=20)
    alone = judged(folds)[0]

    def twins(fold):
        wide = np.column_stack([fold.features, fold.features[:, 0]])

        def score(x):
            # Both copies are read and the larger is believed: either stands in for the other.
            both = x[:, :6].copy()
            both[:, 0] = np.maximum(x[:, 0], x[:, 6])
            return fold.score(both)

        return dataclasses.replace(fold, features=wide, score=score, used=frozenset(range(7)))

    doubled = [twins(fold) for fold in folds]
    names = (*NAMES, "x0 again")
    single = judged(doubled, SINGLE | {"x0 again": (6,)}, names=names)
    (cluster,) = judged(doubled, {"cluster 1": (0, 6)}, names=names)
    assert single[0].importance < 0.75 * alone.importance
    assert single[-1].importance < 0.75 * alone.importance
    assert cluster.importance == pytest.approx(alone.importance, rel=0.1)
    assert cluster.members == ("x0", "x0 again")
    assert cluster.above_floor


def test_a_feature_that_is_the_same_for_every_name_cannot_be_measured():
    folds = [
        dataclasses.replace(f, features=np.column_stack([f.features, f.sessions]).astype(np.float32))
        for f in noise_folds(4)
    ]
    folds = [dataclasses.replace(f, score=lambda x: x[:, 0] * x[:, 6], used=frozenset({0, 6})) for f in folds]
    first, market = judged(folds, {"x0": (0,), "market": (6,)}, names=(*NAMES, "market"))
    assert first.varies
    assert (market.varies, market.importance, market.p_value) == (False, 0.0, 1.0)


def test_the_same_seed_gives_the_same_figures_and_rows_may_come_in_any_order_of_sessions():
    folds = noise_folds(6, edge=0.3)
    assert judged(folds) == judged(folds)
    assert judged(folds, seed=6) != judged(folds)
