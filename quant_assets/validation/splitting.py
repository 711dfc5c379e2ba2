"""What every purged splitter offers: ``split`` on label times, and ``bind`` for scikit-learn."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from quant_assets.common.errors import ValidationError
from quant_assets.validation.spans import IntArray, Spans, read_spans

Split = tuple[IntArray, IntArray]


class PurgedSplitter(ABC):
    """A cross-validation scheme over label intervals; see the concrete splitters."""

    @abstractmethod
    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Number of splits; the arguments exist for scikit-learn and are not read."""

    @abstractmethod
    def splits_of(self, spans: Spans) -> Iterator[Split]:
        """Splits of label intervals that were already read; checks them before the first split is asked for."""

    def split(self, t0: Any, t1: Any) -> Iterator[Split]:
        """Yield ``(train_idx, test_idx)`` for each split, lazily.

        Parameters
        ----------
        t0, t1 : array-like, shape (n_rows,)
            Decision time and time at which the outcome is known, of each row, in any row order. numpy, pandas and
            polars times, with or without time zones, or plain numbers.

        Returns
        -------
        iterator of (ndarray, ndarray)
            Row positions, int64, ascending. Bad input is refused here, not at the first split.

        Raises
        ------
        ValidationError
            Missing times, ``t1`` before ``t0``, unequal lengths, or too few sessions.
        """
        return self.splits_of(read_spans(t0, t1))

    def bind(self, t0: Any, t1: Any) -> "BoundSplitter":
        """Return the same splits as a scikit-learn ``cv`` object for a table with these label times.

        Examples
        --------
        >>> from quant_assets.validation.cpcv import PurgedKFold
        >>> cv = PurgedKFold(n_splits=3).bind(t0=range(9), t1=range(2, 11))
        >>> [(train.tolist(), test.tolist()) for train, test in cv.split(X=[[0.0]] * 9)][1]
        ([0, 8], [3, 4, 5])
        """
        spans = read_spans(t0, t1)
        self.splits_of(spans)
        return BoundSplitter(self, spans)


@dataclass(frozen=True, eq=False)
class BoundSplitter:
    """A purged splitter tied to the label times of one table: usable wherever scikit-learn takes ``cv``."""

    splitter: PurgedSplitter
    spans: Spans

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of splits."""
        return self.splitter.get_n_splits()

    def split(self, X: Any = None, y: Any = None, groups: Any = None) -> Iterator[Split]:
        """Yield ``(train_idx, test_idx)``; ``y`` and ``groups`` are not read.

        Raises
        ------
        ValidationError
            When ``X`` has another number of rows than the label times.
        """
        if X is not None:
            rows = X.shape[0] if hasattr(X, "shape") else len(X)
            if rows != self.spans.n_rows:
                raise ValidationError(
                    "the table does not belong to this cross-validation",
                    expected=f"{self.spans.n_rows} rows, one for each label time it was bound to",
                    found=f"{rows} rows",
                    action="bind the splitter to t0 and t1 of the rows that are passed as X",
                )
        return self.splitter.splits_of(self.spans)
