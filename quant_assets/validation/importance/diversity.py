"""Diversity: what each member adds to the ensemble out of sample, and how much members agree.

The ensemble without a member is stacked anew from the predictions of all others, so a member counts only for what
the others cannot do for it. An only member is compared with no forecast at all, whose rank IC is zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from quant_assets.validation.importance.out_of_sample import Fold, Rows
from quant_assets.validation.importance.sessions import CrossSections, MeanWithError, mean_with_error

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
