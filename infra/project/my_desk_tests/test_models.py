from quant_assets.testing import LearnerContract


class TestBayesianRidge(LearnerContract):
    """Fits repeat, nothing is kept between them, and the exported graph is the model."""

    learner = "my_desk.models:bayesian_ridge"
