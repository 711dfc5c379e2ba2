"""How much history and how many names a strategy needs, worked out from its configuration before anything runs.

Each number comes from the thing that refuses: the pack's own warm-up, the drift baseline's windows, and the splitters
themselves, which are tried on sessions without data.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from quant_assets.common.errors import CalendarError, ConfigurationError, QuantAssetsError
from quant_assets.common.settings import StrategyConfig, SyntheticSource, UniverseConfig, ValidationConfig
from quant_assets.datasets.training_set import MIN_SESSIONS
from quant_assets.features.pack import selected_packs
from quant_assets.gates.limits import DriftConfig
from quant_assets.lineage.configured import Settings
from quant_assets.market.calendar import sessions
from quant_assets.models.cross_prediction import FIRST_COMPARED, outer_splitter, walk_forward_splitter
from quant_assets.models.fitting import inner_splitter
from quant_assets.monitoring.baseline import MIN_WINDOWS
from quant_assets.statistics.sharpe_inference import FEWEST_SESSIONS
from quant_assets.studies.importance.permutation import FEWEST_NAMES

# A longer training window than any splitter can ask for: the search ends there.
_LONGEST = 20_000


@dataclass(frozen=True)
class Requirement:
    """What a strategy needs of its universe.

    Attributes
    ----------
    sessions : int
        Fewest sessions with bars on which a run can end in a decision.
    parts : tuple of (str, int)
        What they are for; the numbers add up to ``sessions``.
    names : int
        Fewest names on which a run can end in a decision.
    sessions_to_promote, names_to_promote : int
        Fewest with which the decision can be a promotion.
    """

    sessions: int
    parts: tuple[tuple[str, int], ...]
    names: int
    sessions_to_promote: int
    names_to_promote: int

    @property
    def sum(self) -> str:
        """The parts as a sum in words."""
        return " + ".join(f"{number} {what}" for what, number in self.parts)

    def missing(self, n_sessions: int, names: int | None) -> tuple[str, ...]:
        """Why a run cannot end in a decision; empty when it can.

        Parameters
        ----------
        names : int or None
            None where the universe does not say how many there are before it is read.
        """
        found = []
        if n_sessions < self.sessions:
            found.append(
                f"{self.sessions - n_sessions} sessions are missing: there are {n_sessions}, "
                f"needed are {self.sessions} ({self.sum})"
            )
        if names is not None and names < self.names:
            found.append(f"there are {names} names, needed are {self.names}")
        return tuple(found)

    def short_of_promotion(self, n_sessions: int, names: int | None) -> tuple[str, ...]:
        """Why nothing can be promoted even where a run works; empty when it can."""
        found = []
        if n_sessions < self.sessions_to_promote:
            found.append(
                f"{n_sessions} sessions, and a record that can be promoted needs {self.sessions_to_promote} "
                "(min_record_sessions of gates.yaml)"
            )
        if names is not None and names < self.names_to_promote:
            found.append(
                f"{names} names, and a model is promoted from {self.names_to_promote} on (minima: names)"
            )
        return tuple(found)


def required_history(strategy: StrategyConfig, settings: Settings) -> Requirement:
    """What a strategy needs of its universe.

    A training row needs every feature past its warm-up, and its label known before the holdout: at the close of the
    session after next but the horizon. So from the first to the last session of a universe there are the warm-up, the
    training window, ``1 + horizon`` sessions of labels, and the holdout.

    Returns
    -------
    Requirement
        ``sessions`` is exact for a panel without gaps: with one session less the run breaks.
    """
    warm_up = max(pack.warm_up for pack in selected_packs(strategy.feature_packs))
    label = 1 + strategy.label.horizon_sessions
    holdout = strategy.holdout_sessions
    training, why = _training_sessions(strategy, settings.drift)
    # Of what is held out nothing is trained on; the oldest check asks for this much before anything is joined.
    least = holdout + MIN_SESSIONS
    if warm_up + training + label + holdout < least:
        training, why = least - warm_up - label - holdout, "training (MIN_SESSIONS before the holdout)"
    parts = (("warm-up of features", warm_up), (why, training), ("label", label), ("holdout", holdout))
    limits = settings.gates.for_strategy(strategy.gates)
    record = int(limits.min_record_sessions)
    return Requirement(
        sessions=sum(number for _, number in parts),
        parts=parts,
        names=FEWEST_NAMES if strategy.reports.importance else 1,
        sessions_to_promote=warm_up + max(training, record) + label + holdout,
        names_to_promote=int(settings.minima.names),
    )


def require_history(strategy: StrategyConfig, settings: Settings, n_sessions: int, names: int | None) -> None:
    """Refuse to run a strategy on a universe that is too short or too narrow.

    Raises
    ------
    ConfigurationError
        With every missing piece, and what each session is for.
    """
    universe = settings.universe_of(strategy)
    needed = required_history(strategy, settings)
    missing = needed.missing(n_sessions, names)
    if missing:
        raise ConfigurationError(
            f"history of {universe.name} for strategy {strategy.name}",
            expected=f"{needed.sessions} sessions of {needed.names} names or more",
            found="; ".join(missing),
            action="widen `start:` and `end:` of the universe, use a longer file, or change the strategy: shorter "
            "holdout_sessions, a pack with less warm-up, fewer validation groups",
        )


def holdings_in_sight(universe: UniverseConfig) -> tuple[int, int | None]:
    """Sessions and names of a universe as far as its configuration says, before anything is read.

    Returns
    -------
    tuple of (int, int or None)
        Sessions of the calendar between its dates; None where only the source knows the names.

    Raises
    ------
    CalendarError
        As `quant_assets.market.calendar.sessions`.
    """
    names = len(universe.symbols) if universe.symbols is not None else None
    if names is None and isinstance(universe.source, SyntheticSource) and not universe.alternatives:
        names = universe.source.n_symbols
    return sessions(universe.calendar, universe.start, universe.end).len(), names


def too_short(settings: Settings) -> list[str]:
    """One sentence for each strategy that cannot end in a decision on its universe, or in no promotion."""
    found = []
    for strategy in settings.strategies.values():
        try:
            held = holdings_in_sight(settings.universe_of(strategy))
        except CalendarError:  # told by `calendar_problems`
            continue
        needed = required_history(strategy, settings)
        missing = needed.missing(*held)
        told = missing or needed.short_of_promotion(*held)
        what = "no run can end in a decision" if missing else "nothing can be promoted"
        found += [f"{strategy.name}: {what}: {sentence}" for sentence in told]
    return found


def _training_sessions(strategy: StrategyConfig, drift: DriftConfig) -> tuple[int, str]:
    """Fewest sessions with training rows, and what asks for most of them."""
    models, tuning = strategy.models, strategy.tuning
    inner = {models.stacker.inner_folds}
    inner |= {models.early_stopping.inner_folds} if models.early_stopping is not None else set()
    asked = [
        (
            MIN_WINDOWS * drift.window_sessions,
            f"training ({MIN_WINDOWS} drift windows of {drift.window_sessions})",
        ),
        (
            _split_sessions(
                strategy.validation,
                strategy.label.horizon_sessions,
                tuple(sorted(inner)),
                tuning.folds if tuning is not None else 0,
            ),
            f"training (validation groups, inner folds and walk-forward windows, embargo "
            f"{strategy.validation.embargo_sessions})",
        ),
    ]
    return max(asked, key=lambda one: one[0])


@lru_cache(maxsize=64)
def _split_sessions(
    validation: ValidationConfig, horizon: int, inner: tuple[int, ...], tuning_folds: int
) -> int:
    """Fewest sessions on which every split has rows to train on, found by trying them."""

    def works(n: int) -> bool:
        return _splits_have_rows(n, validation, horizon, inner, tuning_folds)

    return _least(works, validation.n_groups)


def _least(works: Callable[[int], bool], start: int) -> int:
    high = start
    while not works(high):
        if high > _LONGEST:
            return high
        high *= 2
    low = high // 2
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (low, middle) if works(middle) else (middle, high)
    return high


def _splits_have_rows(
    n: int, validation: ValidationConfig, horizon: int, inner: tuple[int, ...], tuning_folds: int
) -> bool:
    # A row is decided at the close of its session, and its position ends at an open: between two closes.
    t0 = np.arange(n, dtype=np.float64)
    t1 = t0 + horizon + 0.5
    embargo = validation.embargo_sessions

    def nested(rows: np.ndarray) -> bool:
        if not len(rows):
            return False
        folds = (inner_splitter(count, embargo).split(t0[rows], t1[rows]) for count in inner)
        return all(len(train) for split in folds for train, _ in split)

    try:
        outer = outer_splitter(validation).split(t0, t1)
        walks = list(walk_forward_splitter(n, embargo).split(t0, t1))
        tuned = (
            [nested(train) for train, _ in inner_splitter(tuning_folds, embargo).split(t0, t1)]
            if tuning_folds
            else []
        )
        # The track is compared on the sessions after the second window's first, and needs enough of them.
        compared = sum(len(test) for _, test in walks[FIRST_COMPARED:]) - 1
        return (
            compared >= FEWEST_SESSIONS
            and all(nested(train) for train, _ in outer)
            and all(nested(train) for train, _ in walks)
            and all(tuned)
        )
    except QuantAssetsError:  # fewer sessions than groups
        return False
