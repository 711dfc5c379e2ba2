"""The stages on trial, as functions. The lineage hands in its own; a test plants a leak in one."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import polars as pl

from quant_assets.common.settings import ModelsConfig, StrategyConfig, UniverseConfig, ValidationConfig
from quant_assets.common.store import Table
from quant_assets.splits.purging import Split

Features = Callable[[pl.DataFrame, StrategyConfig], pl.DataFrame]
Labels = Callable[[pl.DataFrame, UniverseConfig, StrategyConfig], pl.DataFrame]
TrainingSet = Callable[[pl.DataFrame, pl.DataFrame, StrategyConfig, datetime], Table]
Splits = Callable[[Any, Any, StrategyConfig], Iterator[Split]]
Decisions = Callable[[pl.DataFrame, pl.DataFrame, StrategyConfig], pl.DataFrame]


class CrossPredict(Protocol):
    """Out-of-sample scores of every row on every path, as `quant_assets.models.cross_prediction.cross_predict`."""

    def __call__(
        self,
        frame: pl.DataFrame,
        feature_names: Sequence[str],
        models: ModelsConfig,
        validation: ValidationConfig,
        *,
        seed: int,
    ) -> pl.DataFrame:
        """Columns ``symbol, session, path_0 ...``, rows as in ``frame``."""


@dataclass(frozen=True)
class Pipeline:
    """The functions that a strategy's path consists of.

    Attributes
    ----------
    features : (bars, strategy) -> frame ``symbol, session, ...``
    labels : (bars, universe, strategy) -> frame with ``t0, t1, known_at, forward_return``
    training_set : (features, labels, strategy, known_by) -> Table
    splits, inner_splits : (t0, t1, strategy) -> iterator of (train, test) row positions
    cross_predict : see `CrossPredict`
    decisions : (predictions, bars, strategy) -> path returns, one row per path and session of the fill
    """

    features: Features
    labels: Labels
    training_set: TrainingSet
    splits: Splits
    inner_splits: Splits
    cross_predict: CrossPredict
    decisions: Decisions
