"""What is found out about a learner or weights of a desk's own before anything is judged with them.

A fit must say the same twice, and the same whatever was fitted between: an object that remembers earlier fits has
seen the rows that a later split tests, and no purge helps. So it is fitted to some rows, again, then to rows that
nobody has seen, then to the first ones again.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant_assets.common.errors import ModelError
from quant_assets.common.model_settings import CustomLearnerConfig, WeightsConfig
from quant_assets.models.custom_learner import CustomFit, fit_custom
from quant_assets.models.training_arrays import Samples, TrainingArrays

MOST_ROWS = 2000
# Real rows on which a stored graph is compared with its model.
COMPARED_ROWS = 100_000


@dataclass(frozen=True)
class LearnerProof:
    """What the fits of a proof showed; each is empty, or says what is wrong.

    Attributes
    ----------
    repeats : str
        Two fits of the same rows.
    remembers : str
        A fit of the same rows after one of others.
    draws : str
        Draws from a generator that other fits share.
    """

    repeats: str = ""
    remembers: str = ""
    draws: str = ""

    def require(self, name: str) -> None:
        """Refuse a learner that is not as it has to be.

        Raises
        ------
        ModelError
        """
        found = "; ".join(filter(None, (self.repeats, self.remembers, self.draws)))
        if found:
            raise ModelError(
                f"custom learner {name!r}",
                expected="a fit that depends on its rows, its options and its seed alone",
                found=found,
                action="build everything inside the function that is named, take random numbers from the seed given, "
                "and keep nothing in globals, files or caches",
            )


def some_rows(rows: Samples) -> Samples:
    """At most 2,000 of the rows, evenly chosen."""
    kept = np.arange(0, len(rows.target), -(-len(rows.target) // MOST_ROWS))
    weights = None if rows.weights is None else rows.weights[kept]
    return Samples(np.ascontiguousarray(rows.features[kept]), rows.target[kept], weights)


def unknown_rows(rows: Samples) -> Samples:
    """Rows that nobody has seen, of the same size and spread; classes stay as they are.

    Drawn anew each time: rows of a fixed seed would be in the memory of whoever kept those of an earlier proof. Of an
    honest learner the outcome does not depend on them.
    """
    generator = np.random.default_rng()
    noise = generator.normal(size=rows.features.shape) * (rows.features.std(axis=0) + 1e-3)
    features = (rows.features[::-1] + noise).astype(np.float32)
    target = generator.permutation(rows.target)
    if len(np.unique(rows.target)) > 2:
        target = target + generator.normal(size=len(target)) * (rows.target.std() + 1e-12)
    return replace(rows, features=np.ascontiguousarray(features), target=target)


def prove_learner(
    name: str,
    config: CustomLearnerConfig,
    rows: Samples,
    *,
    seed: int,
    feature_names: Sequence[str],
    research_only: bool = False,
) -> LearnerProof:
    """Fit a learner four times and compare what it says.

    Parameters
    ----------
    rows : Samples
        Training rows, of which at most 2,000 are used.

    Raises
    ------
    ModelError
        When it cannot be fitted at all.
    """
    known = some_rows(rows)

    def says(fitted: Samples) -> NDArray[np.float64]:
        made = fit_custom(
            name, config, fitted, seed=seed, feature_names=feature_names, research_only=research_only
        )
        return made.learner.predict(known.features)

    with _fresh_shared_generators() as touched:
        first = says(known)
        draws = touched()
    second = says(known)
    repeats = _difference("two fits of the same rows differ", first, second)
    says(unknown_rows(known))
    third = says(known)
    remembers = (
        "" if repeats else _difference("it remembers: after a fit of other rows the same rows", first, third)
    )
    return LearnerProof(repeats, remembers, draws)


def _difference(what: str, one: NDArray[np.float64], other: NDArray[np.float64]) -> str:
    moved = int((one != other).sum())
    return f"{what}: {moved} of {len(one)} predictions moved" if moved else ""


@contextmanager
def _fresh_shared_generators() -> Iterator[Callable[[], str]]:
    """Put the generators that all fits share in a state that nobody knows; says whether they were touched since.

    In the state that an earlier fit has left, one that always seeds and draws alike would leave no trace.
    """
    kept = np.random.get_state(), random.getstate()  # noqa: NPY002 - read to see whether a fit draws from it
    np.random.seed()  # noqa: NPY002
    random.seed()

    def state() -> tuple[bytes, Any]:
        _, words, *place = np.random.get_state()  # noqa: NPY002
        return np.asarray(words).tobytes(), (place, random.getstate())

    before = state()
    try:
        yield (
            lambda: (
                ""
                if state() == before
                else "numbers from the global generator of numpy or random, which the fits of other splits share"
            )
        )
    finally:
        np.random.set_state(kept[0])  # noqa: NPY002
        random.setstate(kept[1])


def proven_fit(
    name: str,
    config: CustomLearnerConfig,
    rows: Samples,
    *,
    seed: int,
    feature_names: Sequence[str],
    research_only: bool = False,
) -> CustomFit:
    """The fit of all rows, after the proof, compared with its graph on as many as the parity gate looks at.

    Raises
    ------
    ModelError
        As `LearnerProof.require` and `quant_assets.models.custom_learner.fit_custom`.
    """
    options: dict[str, Any] = {"seed": seed, "feature_names": feature_names, "research_only": research_only}
    prove_learner(name, config, rows, **options).require(name)
    return fit_custom(name, config, rows, **options, most_rows=COMPARED_ROWS)


def prove_weights(config: WeightsConfig, data: TrainingArrays) -> None:
    """Ask for the weights of some rows, again, then for those of others, then for the first ones again.

    Raises
    ------
    ModelError
        When they differ, or as `TrainingArrays.weights`.
    """
    if config.custom is None:
        return
    known = data.take(np.arange(0, len(data.target), -(-len(data.target) // MOST_ROWS)))
    first, second = known.weights(config), known.weights(config)
    known.take(np.arange(len(known.target) // 2 + 1)).weights(config)
    third = known.weights(config)
    for what, other in (("asked twice", second), ("asked for others between", third)):
        if first is None or other is None or not np.array_equal(first, other):
            raise ModelError(
                f"weights of {config.custom.use!r}",
                expected="weights that depend on the rows and the options alone",
                found=f"others when {what}",
                action="take random numbers from a fixed seed, and keep nothing between calls",
            )
