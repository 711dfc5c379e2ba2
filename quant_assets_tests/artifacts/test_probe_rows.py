import numpy as np
import pytest

from quant_assets.artifacts.onnx.parity import extreme_rows, not_finite_rows, on_threshold_rows
from quant_assets.models.trees import Tree


def reached(tree, row):
    """Split nodes that a row passes, by the definition of the tree."""
    node, passed = 0, []
    while node >= 0:
        passed.append(node)
        value, threshold = row[tree.feature[node]], tree.threshold[node]
        goes_left = value <= threshold if tree.inclusive else value < threshold
        node = int((tree.left if goes_left else tree.right)[node])
    return passed


@pytest.mark.parametrize("name", ["lightgbm", "xgboost"])
def test_every_split_of_every_tree_is_reached_by_rows_on_its_threshold(ensemble, training_data, name):
    learner = next(member for member in ensemble.learners if member.name == name)
    trees = learner.trees()
    splits = [(tree, node) for tree in trees for node in range(tree.n_splits)]
    rows = np.concatenate(list(on_threshold_rows(trees, training_data.features))).reshape(len(splits), 3, -1)
    by_tree = iter(rows)
    on_threshold = 0
    for tree in trees:
        seen = set()
        for probes in (next(by_tree) for _ in range(tree.n_splits)):
            common = (
                set(reached(tree, probes[0])) & set(reached(tree, probes[1])) & set(reached(tree, probes[2]))
            )
            # The split that the three rows surround is the deepest that all of them reach.
            node = max(common, key=lambda n: reached(tree, probes[0]).index(n))
            feature, threshold = tree.feature[node], tree.threshold[node]
            values = probes[:, feature]
            assert values[0] == threshold
            assert values[1] == np.nextafter(threshold, np.float32(-np.inf))
            assert values[2] == np.nextafter(threshold, np.float32(np.inf))
            sides = {bool(v <= threshold if tree.inclusive else v < threshold) for v in values}
            assert sides == {True, False}
            seen.add(node)
            on_threshold += 1
        assert seen == set(range(tree.n_splits))
    assert on_threshold == len(splits) > 50


def up(value):
    return np.nextafter(np.float32(value), np.float32(np.inf))


def down(value):
    return np.nextafter(np.float32(value), np.float32(-np.inf))


def test_a_row_moves_only_the_features_on_the_path_to_its_split():
    # x0 <= 1, then x1 <= 5 on the right, then x0 <= 3 on the left of that
    tree = Tree(
        feature=np.array([0, 1, 0]), threshold=np.array([1, 5, 3], dtype=np.float32),
        left=np.array([-1, 2, -1]), right=np.array([1, -1, -1]), inclusive=True,
    )  # fmt: skip
    real = np.array([[0.0, 9.0, 7.0]], dtype=np.float32)
    rows = {tuple(row) for row in np.concatenate(list(on_threshold_rows([tree], real)))}
    assert rows == {
        (1.0, 9.0, 7.0), (down(1), 9.0, 7.0), (up(1), 9.0, 7.0),
        (up(1), 5.0, 7.0), (up(1), down(5), 7.0), (up(1), up(5), 7.0),
        (3.0, 5.0, 7.0), (down(3), 5.0, 7.0), (up(3), 5.0, 7.0),
    }  # fmt: skip


def test_branches_that_no_value_can_take_are_left_out():
    # x0 <= 1 twice: the right child of the second split is dead
    tree = Tree(
        feature=np.array([0, 0, 1]), threshold=np.array([1, 1, 0], dtype=np.float32),
        left=np.array([1, -1, -1]), right=np.array([-1, 2, -1]), inclusive=True,
    )  # fmt: skip
    rows = np.concatenate(list(on_threshold_rows([tree], np.zeros((1, 2), dtype=np.float32))))
    assert len(rows) == 6
    assert rows[:, 0].max() == np.nextafter(np.float32(1), np.float32(2))


def test_large_ensembles_are_probed_in_chunks(ensemble, training_data):
    trees = [tree for learner in ensemble.learners for tree in learner.trees()]
    whole = np.concatenate(list(on_threshold_rows(trees, training_data.features)))
    pieces = list(on_threshold_rows(trees, training_data.features, chunk=60))
    assert max(len(piece) for piece in pieces) <= 62
    assert np.concatenate(pieces).tobytes() == whole.tobytes()


def test_extreme_rows_are_finite_and_reach_both_ends_of_float32_in_every_feature(training_data):
    rows = extreme_rows(training_data.features)
    assert rows.dtype == np.float32
    assert np.isfinite(rows).all()
    for column in range(rows.shape[1]):
        assert rows[:, column].max() == np.finfo(np.float32).max
        assert rows[:, column].min() == np.finfo(np.float32).min
    assert (rows == np.finfo(np.float32).max).all(axis=1).any()


def test_not_finite_rows_break_one_feature_at_a_time(training_data):
    rows = not_finite_rows(training_data.features)
    assert ((~np.isfinite(rows)).sum(axis=1) == 1).all()
    assert len(rows) == 3 * rows.shape[1]
