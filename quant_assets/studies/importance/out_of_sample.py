"""The ensemble out of sample: refitted on purged folds, what each member adds, and what each feature explains."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.errors import ValidationError
from quant_assets.common.model_settings import OWN_LEARNERS
from quant_assets.common.settings import ModelsConfig
from quant_assets.models import catboost_learner, lightgbm_learner, xgboost_learner
from quant_assets.models.fitting import fit_base
from quant_assets.models.learners import FittedLearner
from quant_assets.models.stacking import (
    Stacker,
    logistic_stacker,
    out_of_fold_predictions,
    ridge_stacker,
)
from quant_assets.models.training_arrays import TrainingArrays, training_arrays
from quant_assets.splits.cpcv import PurgedKFold
from quant_assets.studies.importance.permutation import (
    FEWEST_NAMES,
    CrossSections,
    MeanWithError,
    mean_with_error,
    thinned_sessions,
)
from quant_assets.studies.importance.sampled_contributions import sampled_contributions

# ------------------------------------------------------------------------------ members and stackers refitted


FOLDS = 3
# 100 names and 20 years are half a million rows; a quarter of their sessions ranks features as all of them do.
MOST_FITTED_ROWS = 120_000


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows that everything is measured on, sorted by decision time and symbol.

    Attributes
    ----------
    arrays : TrainingArrays
    outcome : ndarray of float64, shape (n,)
        Forward return, a fraction, also where a direction is learnt.
    feature_names : tuple of str
    step : int
        Every ``step``-th session was kept.
    embargo : int
        In sessions that were kept.
    """

    arrays: TrainingArrays
    outcome: NDArray[np.float64]
    feature_names: tuple[str, ...]
    step: int
    embargo: int

    @property
    def sessions(self) -> NDArray[Any]:
        """Decision time of each row."""
        return self.arrays.t0


@dataclass(frozen=True, eq=False)
class Fold:
    """One purged fold.

    Attributes
    ----------
    train, test : ndarray of int64
        Rows.
    members : tuple of FittedLearner
        Fitted to ``train`` alone.
    stacker : Stacker
        Of all members, fitted to out-of-fold predictions inside ``train``.
    without : dict of str to Stacker
        By member: the stacker of all others, fitted to the same predictions; none for an only member.
    """

    train: NDArray[np.int64]
    test: NDArray[np.int64]
    members: tuple[FittedLearner, ...]
    stacker: Stacker
    without: dict[str, Stacker]

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """The ensemble's scores."""
        return self.stacker.combine(np.column_stack([m.predict(features) for m in self.members]))


def measured_rows(
    frame: pl.DataFrame,
    feature_names: Sequence[str],
    models: ModelsConfig,
    *,
    embargo_sessions: int,
    most_rows: int = MOST_FITTED_ROWS,
) -> Rows:
    """Read a training set, thinned evenly by whole sessions where it is long.

    Parameters
    ----------
    frame : polars.DataFrame
        Training set: ``symbol, t0, t1``, the features (Float32, no nulls), ``target`` (forward return).
    feature_names : sequence of str
    models : ModelsConfig
    embargo_sessions : int
    most_rows : int

    Raises
    ------
    ValidationError
        When no session has two names: nothing is ranked then.
    """
    ordered = frame.sort("t0", "symbol")
    kept, step = thinned_sessions(ordered["t0"].to_numpy(), most_rows)
    ordered = ordered[kept]
    arrays = training_arrays(ordered, feature_names, models.label_kind)
    times, sizes = np.unique(arrays.t0, return_counts=True)
    if int(sizes.max(initial=0)) < FEWEST_NAMES:
        raise ValidationError(
            "importance is a loss of rank correlation within sessions",
            expected=f"sessions with at least {FEWEST_NAMES} names",
            found=f"{len(times)} sessions with at most {int(sizes.max(initial=0))}",
            action="give the universe more symbols",
        )
    outcome = ordered["target"].cast(pl.Float64).to_numpy()
    # Of e sessions in a row, at most ceil(e / step) were kept.
    return Rows(arrays, outcome, tuple(feature_names), step, -(-embargo_sessions // step))


def fit_folds(rows: Rows, models: ModelsConfig, *, seed: int, n_folds: int = FOLDS) -> tuple[Fold, ...]:
    """Fit members and stackers on each purged fold.

    Raises
    ------
    ModelError
        When a fold has nothing to train on.
    """
    fit_stacker = {"return": ridge_stacker, "direction": logistic_stacker}[models.label_kind]
    options: dict[str, Any] = {
        "seed": seed,
        "feature_names": rows.feature_names,
        "embargo_sessions": rows.embargo,
    }
    folds = []
    for train, test in purged_folds(rows, n_folds):
        data = rows.arrays.take(train)
        members = tuple(fit_base(name, data, models, **options) for name in models.learners)
        inner = out_of_fold_predictions(data, models, **options)
        weights = data.weights(models.weights)

        def stacked(
            names: tuple[str, ...],
            data: TrainingArrays = data,
            inner: NDArray[np.float64] = inner,
            weights: NDArray[np.float64] | None = weights,
        ) -> Stacker:
            columns = [models.learners.index(name) for name in names]
            return fit_stacker(
                inner[:, columns], data.target, names, models.stacker.ridge_alpha, sample_weights=weights
            )

        others = {name: tuple(n for n in models.learners if n != name) for name in models.learners}
        folds.append(
            Fold(
                train,
                test,
                members,
                stacked(models.learners),
                {name: stacked(rest) for name, rest in others.items() if rest},
            )
        )
    return tuple(folds)


def purged_folds(rows: Rows, n_folds: int = FOLDS) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Training and test rows of each purged fold, in time order."""
    return list(PurgedKFold(n_folds, embargo=rows.embargo).split(rows.arrays.t0, rows.arrays.t1))


# -------------------------------------------------------------------------------------- what each member adds


Verdict = Literal["adds", "not distinguishable from nothing", "harms"]


@dataclass(frozen=True)
class MemberGain:
    """What one member is worth.

    Attributes
    ----------
    member : str
    coefficient_share : float
        Mean over folds of its share of ``|coefficient * spread|``: what the stacker thinks of it.
    own_rank_ic : MeanWithError
        Of its predictions alone.
    gain : MeanWithError
        Rank IC of the ensemble with it minus that without it, mean over sessions.
    verdict : str
        By the 95 % interval of the gain; of a worthless member, 2.5 % are said to add by chance.
    """

    member: str
    coefficient_share: float
    own_rank_ic: MeanWithError
    gain: MeanWithError
    verdict: Verdict


@dataclass(frozen=True)
class PairAgreement:
    """How alike two members predict out of sample.

    Attributes
    ----------
    first, second : str
    rank_correlation : float
        Mean over sessions of the correlation of ranks.
    same_sign, same_half : float
        Share of rows on which both predictions are above zero or both are not, and above the session's median
        or both are not.
    """

    first: str
    second: str
    rank_correlation: float
    same_sign: float
    same_half: float


@dataclass(frozen=True)
class Diversity:
    """Members of an ensemble, measured out of sample.

    Attributes
    ----------
    members : tuple of MemberGain
    pairs : tuple of PairAgreement
    rank_ic : MeanWithError
        Of the whole ensemble.
    n_sessions : int
    """

    members: tuple[MemberGain, ...]
    pairs: tuple[PairAgreement, ...]
    rank_ic: MeanWithError
    n_sessions: int


def diversity(rows: Rows, folds: Sequence[Fold]) -> Diversity:
    """Measure the members on the test rows of all folds.

    The ensemble without a member is stacked anew from the predictions of all others, so a member counts only for what
    the others cannot do for it. An only member is compared with no forecast at all, whose rank IC is zero.

    Raises
    ------
    ValidationError
        With fewer than 32 sessions of several names.
    """
    names = [member.name for member in folds[0].members]
    test = np.concatenate([fold.test for fold in folds])
    base = np.concatenate(
        [np.column_stack([m.predict(rows.arrays.features[f.test]) for m in f.members]) for f in folds]
    )
    sections = CrossSections(rows.sessions[test])
    outcome = sections.unit_ranks(rows.outcome[test])
    lengths = [len(fold.test) for fold in folds]

    def series(scores: NDArray[np.float64]) -> NDArray[np.float64]:
        return sections.rank_ic(scores, outcome)

    def summary(values: NDArray[np.float64]) -> MeanWithError:
        return mean_with_error(values)

    by_fold = np.split(base, np.cumsum(lengths)[:-1])
    whole = series(
        np.concatenate([fold.stacker.combine(part) for fold, part in zip(folds, by_fold, strict=True)])
    )
    gains = []
    for place, name in enumerate(names):
        rest = [i for i in range(len(names)) if i != place]
        without = np.concatenate(
            [
                fold.without[name].combine(part[:, rest]) if rest else np.zeros(len(part))
                for fold, part in zip(folds, by_fold, strict=True)
            ]
        )
        gain = summary(whole - series(without))
        gains.append(
            MemberGain(name, _share(folds, place), summary(series(base[:, place])), gain, verdict_of(gain))
        )
    ranks = [sections.unit_ranks(base[:, i]) for i in range(len(names))]
    pairs = tuple(
        PairAgreement(
            names[i],
            names[j],
            float(sections.sums(ranks[i] * ranks[j]).mean()),
            float(((base[:, i] > 0) == (base[:, j] > 0)).mean()),
            float(((ranks[i] > 0) == (ranks[j] > 0)).mean()),
        )
        for i in range(len(names))
        for j in range(i + 1, len(names))
    )
    return Diversity(tuple(gains), pairs, summary(whole), len(whole))


def verdict_of(gain: MeanWithError) -> Verdict:
    """What an interval says about a gain."""
    if gain.low > 0:
        return "adds"
    return "harms" if gain.high < 0 else "not distinguishable from nothing"


def _share(folds: Sequence[Fold], place: int) -> float:
    shares = []
    for fold in folds:
        weights = np.abs(np.array(fold.stacker.coefficients) * np.array(fold.stacker.spreads))
        shares.append(float(weights[place] / weights.sum()) if weights.sum() > 0 else 0.0)
    return float(np.mean(shares))


# ------------------------------------------------------------------------------------------ exact SHAP values


@dataclass(frozen=True, eq=False)
class ShapValues:
    """SHAP values of some rows.

    Lundberg, Erion and Lee (2018), *Consistent Individualized Feature Attribution for Tree Ensembles*, algorithm 2
    (path-dependent). A linear stacker of trees has the same linear combination of their SHAP values.

    Attributes
    ----------
    values : ndarray of float64, shape (n, f)
        In the unit of the scores; ``base + values.sum(axis=1)`` is the score.
    base : ndarray of float64, shape (n,)
        What a row scores before anything is known about it; one number per fitted ensemble.
    features : ndarray of float32, shape (n, f)
    """

    values: NDArray[np.float64]
    base: NDArray[np.float64]
    features: NDArray[np.float32]

    @property
    def mean_absolute(self) -> NDArray[np.float64]:
        """Mean absolute SHAP value of each feature, shape (f,)."""
        return np.asarray(np.abs(self.values).mean(axis=0))


def learner_contributions(
    learner: FittedLearner, features: NDArray[np.float32]
) -> tuple[NDArray[np.float64], float]:
    """SHAP values of one learner and their base value, by the library that grew it; sampled for any other.

    Parameters
    ----------
    learner : FittedLearner
    features : ndarray of float32, shape (n, f), n > 0

    Returns
    -------
    values : ndarray of float64, shape (n, f)
        Expected return, or log-odds for a classification.
    base : float
    """
    if learner.name not in OWN_LEARNERS:
        return sampled_contributions(learner.predict, features)
    explained = {"lightgbm": _lightgbm, "xgboost": _xgboost, "catboost": _catboost}[learner.name]
    contributions = np.asarray(explained(learner.text, np.ascontiguousarray(features)), dtype=np.float64)
    return contributions[:, :-1], float(contributions[0, -1])


def ensemble_contributions(
    members: Sequence[FittedLearner], stacker: Stacker, features: NDArray[np.float32]
) -> ShapValues:
    """SHAP values of a stacked ensemble: those of its members, weighted by the stacker's coefficients."""
    values = np.zeros(features.shape)
    base = stacker.intercept
    for member, coefficient in zip(members, stacker.coefficients, strict=True):
        part, level = learner_contributions(member, features)
        values += coefficient * part
        base += coefficient * level
    return ShapValues(values, np.full(len(features), base), features)


def joined(parts: Sequence[ShapValues]) -> ShapValues:
    """SHAP values of several folds as one table."""
    return ShapValues(
        np.concatenate([p.values for p in parts]),
        np.concatenate([p.base for p in parts]),
        np.concatenate([p.features for p in parts]),
    )


def _lightgbm(text: str, features: NDArray[np.float32]) -> NDArray[np.float64]:
    booster = lightgbm_learner.load(text)
    values: NDArray[np.float64] = booster.predict(features, pred_contrib=True, num_threads=1)
    return values


def _xgboost(text: str, features: NDArray[np.float32]) -> NDArray[np.float64]:
    import xgboost

    booster = xgboost_learner.load(text)
    names = [f"f{column}" for column in range(features.shape[1])]
    rows = xgboost.DMatrix(features, feature_names=names, nthread=1)
    values: NDArray[np.float64] = booster.predict(rows, pred_contribs=True, validate_features=False)
    return values


def _catboost(text: str, features: NDArray[np.float32]) -> NDArray[np.float64]:
    import catboost

    values: NDArray[np.float64] = catboost_learner.load(text).get_feature_importance(
        catboost.Pool(features, thread_count=1), type="ShapValues", thread_count=1
    )
    return values


# -------------------------------------------------------------------------------------------- shadow features


def shadow_rows(sessions: CrossSections, generator: np.random.Generator) -> NDArray[np.int64]:
    """For each row, the row that its shadow is read from: a quarter to three quarters of the sessions away.

    Rows are in time order, and within a session in the order of their names. The name is another one too, where
    a session has several: the k-th takes the value of the (k + r)-th of the other session.
    """
    n = sessions.n_sessions
    starts = np.concatenate(([0], np.cumsum(sessions.sizes)))
    shift = int(generator.integers(n // 4, max(3 * n // 4, n // 4 + 1)))
    other = (sessions.number + shift) % n
    place = np.arange(len(sessions.number)) - starts[sessions.number]
    turn = int(generator.integers(1, max(int(sessions.sizes.max()), 2)))
    rows: NDArray[np.int64] = starts[other] + (place + turn) % sessions.sizes[other]
    return rows


def shadow_shap(
    rows: Rows,
    folds: Sequence[Fold],
    explained: Sequence[NDArray[np.int64]],
    models: ModelsConfig,
    *,
    seed: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean absolute SHAP value of each feature and each shadow, in members refitted with both side by side.

    Kursa and Rudnicki (2010), *Feature Selection with the Boruta Package*. Theirs are shuffled row by row; a feature
    that lasts for months then competes with noise that does not, and earns more in training for its persistence
    alone. Here the whole history is moved, so a shadow lasts as long as its feature.

    Parameters
    ----------
    rows : Rows
    folds : sequence of Fold
        Stackers are theirs.
    explained : sequence of ndarray
        By fold, the test rows to explain.
    models : ModelsConfig
    seed : int

    Returns
    -------
    features, shadows : ndarray of float64, shape (f,)
        From one fit: in the ensemble itself noise has half as many rivals, and would look better than a shadow.
    """
    sessions = CrossSections(rows.sessions)
    generator = np.random.default_rng([seed, 1])
    data, width = rows.arrays, len(rows.feature_names)
    shadows = np.column_stack(
        [data.features[shadow_rows(sessions, generator), column] for column in range(width)]
    )
    both = np.ascontiguousarray(np.hstack([data.features, shadows]))
    names = [*rows.feature_names, *(f"shadow_{column}" for column in range(width))]
    wide = TrainingArrays(both, data.target, data.t0, data.t1, data.symbol, names=data.names)
    total, count = np.zeros(2 * width), 0
    for fold, unseen in zip(folds, explained, strict=True):
        train = wide.take(fold.train)
        members = [
            fit_base(name, train, models, seed=seed, feature_names=names, embargo_sessions=rows.embargo)
            for name in models.learners
        ]
        values = ensemble_contributions(members, fold.stacker, both[unseen]).values
        total += np.abs(values).sum(axis=0)
        count += len(unseen)
    return total[:width] / count, total[width:] / count
