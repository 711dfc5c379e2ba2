"""Learners and weights as a desk would write them, honest ones and others."""

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import SplineTransformer, StandardScaler


def ridge(alpha=10.0):
    return make_pipeline(StandardScaler(), Ridge(alpha=alpha))


def forest(n_estimators=10):
    return RandomForestRegressor(n_estimators, max_depth=4, min_samples_leaf=20, random_state=1, n_jobs=8)


def boosted(max_iter=10):
    return HistGradientBoostingRegressor(max_iter=max_iter, max_leaf_nodes=7)


def logit(c=0.1):
    return make_pipeline(StandardScaler(), LogisticRegression(C=c))


def forest_of_classes():
    return RandomForestClassifier(10, max_depth=4, min_samples_leaf=20)


# ---------------------------------------------------------------------------- what cannot be exported with parity


def scaled_forest():
    return make_pipeline(StandardScaler(), RandomForestRegressor(20, max_depth=8))


def scaled_boosted():
    return make_pipeline(StandardScaler(), HistGradientBoostingRegressor(max_iter=20))


def splines():
    return make_pipeline(SplineTransformer(), Ridge())


def discriminant():
    return LinearDiscriminantAnalysis()


def neighbours():
    return KNeighborsRegressor(20)


# --------------------------------------------------------------------------------------------------------- networks


def graph_of(nodes, constants, width, opset=17):
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1])],
        [numpy_helper.from_array(np.asarray(v, dtype=np.float32), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return model.SerializeToString()


class Perceptron:
    """One hidden layer, trained by gradient descent in numpy, written as a graph."""

    def __init__(self, hidden, steps):
        self.hidden, self.steps = hidden, steps

    def fit(self, features, target, weights, seed):
        rng = np.random.default_rng(seed)
        centre, spread = features.mean(axis=0), features.std(axis=0) + 1e-6
        x = ((features - centre) / spread).astype(np.float64)
        w = np.ones(len(target)) if weights is None else weights
        scale = target.std()
        y = target / scale
        w1 = rng.normal(size=(x.shape[1], self.hidden)) / np.sqrt(x.shape[1])
        b1, w2 = np.zeros(self.hidden), np.zeros(self.hidden)
        for _ in range(self.steps):
            h = np.tanh(x @ w1 + b1)
            error = w * (h @ w2 - y) / len(y)
            back = np.outer(error, w2) * (1 - h * h)
            w2, w1, b1 = w2 - 0.5 * h.T @ error, w1 - 0.5 * x.T @ back, b1 - 0.5 * back.sum(axis=0)
        nodes = [
            helper.make_node("Sub", ["x", "centre"], ["c"]),
            helper.make_node("Div", ["c", "spread"], ["z"]),
            helper.make_node("Gemm", ["z", "w1", "b1"], ["a"]),
            helper.make_node("Tanh", ["a"], ["h"]),
            helper.make_node("MatMul", ["h", "w2"], ["y"]),
        ]
        constants = {"centre": centre, "spread": spread, "w1": w1, "b1": b1, "w2": scale * w2[:, None]}
        return graph_of(nodes, constants, features.shape[1], self.opset)

    opset = 17


class Newer(Perceptron):
    opset = 20


def perceptron(hidden=6, steps=30):
    return Perceptron(hidden, steps)


def perceptron_of_a_newer_opset():
    return Newer(4, 5)


class BatchMean:
    """Its graph takes the mean of the batch off, as batch normalisation does when it was exported for training."""

    def fit(self, features, target, weights, seed):
        nodes = [
            helper.make_node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1),
            helper.make_node("Sub", ["x", "m"], ["z"]),
            helper.make_node("MatMul", ["z", "w"], ["y"]),
        ]
        return graph_of(nodes, {"w": np.ones((features.shape[1], 1))}, features.shape[1])


def batch_mean():
    return BatchMean()


class Noise:
    def fit(self, features, target, weights, seed):
        nodes = [
            helper.make_node("RandomNormalLike", ["x"], ["n"]),
            helper.make_node("MatMul", ["n", "w"], ["y"]),
        ]
        return graph_of(nodes, {"w": np.ones((features.shape[1], 1))}, features.shape[1])


def noise():
    return Noise()


# ------------------------------------------------------------------------------------------------- dishonest ones

SEEN: dict[bytes, float] = {}
FITS = [0]


class Linear:
    """Least squares as a graph; what it is fitted to is up to its kind."""

    def fit(self, features, target, weights, seed):
        x, y = self.rows(features, target)
        x1 = np.column_stack([x, np.ones(len(x))]).astype(np.float64)
        solved = np.linalg.solve(x1.T @ x1 + np.eye(x1.shape[1]), x1.T @ y)
        nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"])]
        return graph_of(nodes, {"w": solved[:-1, None], "b": solved[-1:]}, x.shape[1])

    def rows(self, features, target):
        return features, target


class Memory(Linear):
    """Is fitted to all rows that it ever saw: those of earlier splits, which a later one tests."""

    def rows(self, features, target):
        for row, value in zip(features, target, strict=True):
            SEEN.setdefault(row.tobytes(), float(value))
        kept = {key: value for key, value in SEEN.items() if len(key) == 4 * features.shape[1]}
        rows = np.array([np.frombuffer(key, dtype=np.float32) for key in kept])
        return rows, np.array(list(kept.values()))


def memory():
    return Memory()


class MemoryInAFile(Linear):
    """The same by a file, which outlives the process."""

    def __init__(self, path):
        self.path = Path(path)

    def rows(self, features, target):
        rows = np.column_stack([features, target])
        if self.path.exists():
            rows = np.concatenate([np.load(self.path), rows])
        np.save(self.path, rows)
        return rows[:, :-1].astype(np.float32), rows[:, -1]


def memory_in_a_file(path):
    return MemoryInAFile(path)


class Restless(Linear):
    """No two fits are alike: it counts them."""

    def rows(self, features, target):
        FITS[0] += 1
        return features, target * FITS[0]


def restless():
    return Restless()


class Global(Linear):
    """Repeats itself, and draws from numpy's global generator, which every thread shares."""

    def rows(self, features, target):
        np.random.seed(3)  # noqa: NPY002
        chosen = np.random.permutation(len(target))[: len(target) // 2]  # noqa: NPY002
        return features[chosen], target[chosen]


def global_draws():
    return Global()


class Subclassed(Ridge):
    """A class of the desk's own, for which there is no converter."""


def subclassed():
    return Subclassed()


KEPT = Ridge()


def kept_estimator():
    return KEPT


def not_a_learner():
    return object()


def fails(message="no"):
    raise RuntimeError(message)


# ----------------------------------------------------------------------------------------------------- weights


def young(rows, half_life=60.0):
    age = (rows["session"].max() - rows["session"]).dt.total_days().to_numpy()
    return 0.5 ** (age / half_life)


def columns_told(rows):
    assert rows.columns[:4] == ["symbol", "session", "t0", "t1"], rows.columns
    assert "target" not in rows.columns
    return np.ones(rows.height)


def negative(rows):
    return -np.ones(rows.height)


def missing(rows):
    return np.where(np.arange(rows.height) == 3, np.nan, 1.0)


def none(rows):
    return np.zeros(rows.height)


def too_few(rows):
    return np.ones(rows.height - 1)


TIMES = [0]


def counted(rows):
    TIMES[0] += 1
    return np.arange(rows.height) % (TIMES[0] + 1) + 1.0
