"""Members and stackers refitted on purged folds, and what each member adds there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.errors import ValidationError
from quant_assets.common.settings import ModelsConfig
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
from quant_assets.studies.importance.sampling import (
    FEWEST_NAMES,
    CrossSections,
    MeanWithError,
    mean_with_error,
    thinned_sessions,
)

# --------------------------------------------------------------------------------------------------
# Members and stackers refitted on purged folds: what importance and diversity are measured on.


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
    embargo, overlap : int
        Embargo, and sessions over which labels overlap, both in sessions that were kept.
    """

    arrays: TrainingArrays
    outcome: NDArray[np.float64]
    feature_names: tuple[str, ...]
    step: int
    embargo: int
    overlap: int

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
    reach = np.searchsorted(times, arrays.t1, side="right") - np.searchsorted(times, arrays.t0, side="right")
    outcome = ordered["target"].cast(pl.Float64).to_numpy()
    # Of e sessions in a row, at most ceil(e / step) were kept.
    return Rows(
        arrays, outcome, tuple(feature_names), step, -(-embargo_sessions // step), int(reach.max(initial=0))
    )


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


# --------------------------------------------------------------------------------------------------
# Diversity: what each member adds to the ensemble out of sample, and how much members agree.
#
# The ensemble without a member is stacked anew from the predictions of all others, so a member counts only for what
# the others cannot do for it. An only member is compared with no forecast at all, whose rank IC is zero.


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
        return mean_with_error(values, overlap=rows.overlap)

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
