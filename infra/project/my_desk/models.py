"""Models of this desk: scikit-learn estimators that skl2onnx converts, one beside the platform's learners."""

from sklearn.linear_model import BayesianRidge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler


def bayesian_ridge() -> Pipeline:
    """A linear model whose penalty the data choose (MacKay 1992, Neural Computation 4, 415)."""
    return make_pipeline(StandardScaler(), BayesianRidge())
