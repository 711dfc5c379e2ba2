"""Base classes of the tests of a desk's learners and of its sample weights."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.model_settings import CustomLearnerConfig, WeightsConfig
from quant_assets.common.plugins import Plugin
from quant_assets.models.custom_learner import CustomFit, fit_custom
from quant_assets.models.learner_proof import LearnerProof, prove_learner, prove_weights
from quant_assets.models.learners import from_text
from quant_assets.models.training_arrays import Samples, training_arrays

SEED = 7
SESSIONS, SYMBOLS, FEATURES = 60, 10, 6


def small_training_set(*, classes: bool = False) -> pl.DataFrame:
    """Training rows with a known edge: ``feature_0`` drives the target; features on a grid, of fat tails, and large.

    Returns
    -------
    polars.DataFrame
        ``symbol, session, t0, t1, feature_0 ... feature_5`` (Float32), ``target`` (a return, or 0 and 1).
    """
    rng = np.random.default_rng(SEED)
    n = SESSIONS * SYMBOLS
    features = rng.standard_t(4, (n, FEATURES))
    features[:, ::2] = np.round(features[:, ::2], 1)
    features[:, 5] = 1e4 + 1e3 * features[:, 5]
    target = 0.01 * (np.tanh(features[:, 0]) + 0.5 * rng.standard_normal(n))
    day = np.repeat(np.arange(SESSIONS), SYMBOLS)
    t0 = np.datetime64("2020-01-01T21:00", "us") + day * np.timedelta64(1, "D")
    return pl.DataFrame(
        {
            "symbol": np.tile([f"S{number:02d}" for number in range(SYMBOLS)], SESSIONS),
            "session": t0.astype("datetime64[D]"),
            "t0": t0,
            "t1": t0 + np.timedelta64(6, "D"),
            **{f"feature_{c}": features[:, c].astype(np.float32) for c in range(FEATURES)},
            "target": (target > np.median(target)).astype(np.float64) if classes else target,
        }
    ).with_columns(pl.col("t0", "t1").dt.replace_time_zone("UTC"))


def _as_plugin(named: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a plug-in that a test names by text, by mapping, or by the function itself."""
    if callable(named):
        named = f"{named.__module__}:{named.__qualname__}"
    given: dict[str, Any] = {"use": named} if isinstance(named, str) else dict(named)
    return {**given, "options": {**given.get("options", {}), **options}}


class LearnerContract:
    """What the platform relies on of a learner. Inherit it, and say which one::

        class TestRidge(LearnerContract):
            learner = "my_desk.models:ridge"
            options = {"alpha": 10.0}

    Attributes
    ----------
    learner : str, mapping or callable
        ``module:object``, ``{"use": ..., "options": {...}}``, or the function itself.
    options : mapping
    target : {"number", "class"}
        What it is fitted to.
    research_only : bool
        Leaves out what only an exported learner can do.
    takes_weights : bool
        Whether its fit takes sample weights.
    """

    learner: ClassVar[Any]
    options: ClassVar[Mapping[str, Any]] = {}
    target: ClassVar[Literal["number", "class"]] = "number"
    research_only: ClassVar[bool] = False
    takes_weights: ClassVar[bool] = True

    @property
    def _config(self) -> CustomLearnerConfig:
        # Through the class: a function would become a method.
        named = _as_plugin(type(self).__dict__.get("learner", type(self).learner), self.options)
        return CustomLearnerConfig.model_validate({**named, "target": self.target})

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(f"feature_{column}" for column in range(FEATURES))

    def rows(self) -> Samples:
        """Training rows; override to give some that your learner is made for."""
        data = training_arrays(small_training_set(classes=self.target == "class"), self._names)
        return Samples(data.features, data.target)

    def _fitted(self, rows: Samples) -> CustomFit:
        names = tuple(f"feature_{column}" for column in range(rows.features.shape[1]))
        return fit_custom(
            "learner", self._config, rows, seed=SEED, feature_names=names, research_only=self.research_only
        )

    def _proof(self) -> LearnerProof:
        rows = self.rows()
        names = tuple(f"feature_{column}" for column in range(rows.features.shape[1]))
        return prove_learner(
            "learner", self._config, rows, seed=SEED, feature_names=names, research_only=self.research_only
        )

    def test_two_fits_of_the_same_rows_say_the_same(self) -> None:
        """A fit depends on its rows, its options and its seed."""
        assert self._proof().repeats == ""

    def test_nothing_is_kept_between_fits(self) -> None:
        """A fit of other rows in between changes nothing, and no generator is shared."""
        proof = self._proof()
        assert proof.remembers == ""
        assert proof.draws == ""

    def test_the_graph_says_what_the_model_says(self) -> None:
        """On training rows, between and far outside of them; and it is read back from its text."""
        rows = self.rows()
        fitted = self._fitted(rows)
        if self.research_only:
            return
        assert fitted.agreement is not None
        assert fitted.agreement.exact
        again = from_text("learner", fitted.learner.to_text())
        assert np.array_equal(again.predict(rows.features), fitted.learner.predict(rows.features))

    def test_a_row_does_not_depend_on_the_rows_beside_it(self) -> None:
        """One by one the scores are those of the whole batch, up to rounding."""
        rows = self.rows()
        learner = self._fitted(rows).learner
        whole = learner.predict(rows.features[:40])
        single = np.concatenate([learner.predict(rows.features[n : n + 1]) for n in range(40)])
        assert np.allclose(whole, single, rtol=0, atol=1e-5 * np.abs(whole).max())

    def test_sample_weights_count(self) -> None:
        """Rows without weight teach nothing."""
        rows = self.rows()
        half = np.arange(len(rows.target)) < len(rows.target) // 2
        turned = np.where(half, 1 - rows.target if self.target == "class" else -5 * rows.target, rows.target)
        weighted = Samples(rows.features, turned, np.where(half, 1e-6, 2.0))
        fitted = self._fitted(weighted)
        if not self.takes_weights:
            assert not fitted.weights_taken
            return
        assert fitted.weights_taken
        plain = self._fitted(Samples(rows.features, turned)).learner
        assert not np.array_equal(fitted.learner.predict(rows.features), plain.predict(rows.features))

    def test_scores_are_finite_wherever_features_are(self) -> None:
        """Also at both ends of float32."""
        rows = self.rows()
        limits = np.finfo(np.float32)
        far = np.concatenate(
            [np.full((1, rows.features.shape[1]), v, np.float32) for v in (limits.max, limits.min)]
        )
        assert np.isfinite(self._fitted(rows).learner.predict(far)).all()


class WeightsContract:
    """What the platform relies on of sample weights. Inherit it, and say which::

        class TestWeights(WeightsContract):
            weights = "my_desk.weights:volume_weights"

    Attributes
    ----------
    weights : str, mapping or callable
    options : mapping
    """

    weights: ClassVar[Any]
    options: ClassVar[Mapping[str, Any]] = {}

    @property
    def _config(self) -> WeightsConfig:
        named = _as_plugin(type(self).__dict__.get("weights", type(self).weights), self.options)
        return WeightsConfig(custom=Plugin.model_validate(named))

    def frame(self) -> pl.DataFrame:
        """Training rows with the columns of `small_training_set`; override to give some with your features."""
        return small_training_set()

    def test_weights_are_finite_not_negative_and_of_mean_one(self) -> None:
        """One for each row."""
        frame = self.frame()
        found: NDArray[np.float64] | None = training_arrays(frame, features_of(frame)).weights(self._config)
        assert found is not None
        assert found.shape == (frame.height,)
        assert np.isfinite(found).all()
        assert (found >= 0).all()
        assert abs(found.mean() - 1) < 1e-9

    def test_the_same_rows_have_the_same_weights_whatever_was_asked_between(self) -> None:
        """Nothing is drawn and nothing is kept."""
        frame = self.frame()
        prove_weights(self._config, training_arrays(frame, features_of(frame)))


def features_of(frame: pl.DataFrame) -> tuple[str, ...]:
    """The columns of a training set that are features."""
    keys = {"symbol", "session", "t0", "t1", "known_at", "target"}
    return tuple(name for name in frame.columns if name not in keys)
