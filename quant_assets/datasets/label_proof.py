"""Proof by experiment that labels end when they say so: purging keeps apart what they say overlaps, and nothing else.

A target that uses bars after its own ``t1`` overlaps with test rows that purging leaves in training. Whoever writes
``t1`` can be wrong about it, so the bars after it are changed, and the target has to stay.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np
import polars as pl

from quant_assets.common.errors import DatasetError

Experiment = Literal[
    "repeated", "bars_after_t1", "bar_of_t1_after_its_open", "bars_after_known_at", "no_outcome"
]
Make = Callable[[pl.DataFrame], pl.DataFrame]

MEANING: dict[Experiment, str] = {
    "repeated": "the same bars gave another label",
    "bars_after_t1": "the target moved when bars after its t1 were changed: t1 is too early, and purging misses it",
    "bar_of_t1_after_its_open": "the target moved when the bar that opens at its t1 was changed after that open",
    "bars_after_known_at": "the label was another one before the bars after its known_at were there",
    "no_outcome": "no target moved when all bars after the decision were changed: it says nothing of the future",
}
KEYS = ("symbol", "session")
WHAT = ("t1", "known_at", "target")
FACTORS = (0.5, 2.0)
SEED = 21
N_CUTS = 6
# Relative; a function may add up fewer bars in another order.
TOLERANCE = 1e-9
FIELDS = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True)
class LabelViolation:
    """The first label, by session, that an experiment moved although it must not."""

    experiment: Experiment
    symbol: str
    session: date
    original: float
    moved: float | None
    count: int

    def __str__(self) -> str:
        where = f"{self.symbol} of {self.session}" if self.symbol else f"sessions up to {self.session}"
        moved = "no label" if self.moved is None else f"{self.moved:.6g}"
        change = f": {self.original:.6g} became {moved}" if self.symbol else ""
        return f"{MEANING[self.experiment]} ({where}{change}; {self.count} labels)"


@dataclass(frozen=True)
class LabelReport:
    """What the experiments found.

    Attributes
    ----------
    rows : int
        Labels of the bars as they are.
    compared : int
        Labels that an experiment on later bars compared.
    cut_sessions : tuple of date
    violations : tuple of LabelViolation
        One for each experiment.
    """

    rows: int
    compared: int
    cut_sessions: tuple[date, ...]
    violations: tuple[LabelViolation, ...]

    @property
    def passed(self) -> bool:
        """Whether labels were compared and none moved."""
        return not self.violations and self.compared > 0


def prove_labels(
    make: Make, bars: pl.DataFrame, session_times: pl.DataFrame, cut_sessions: int | Sequence[date] = N_CUTS
) -> LabelReport:
    """Show on these bars that no label uses a bar after its own ``t1``, or one that is not there by ``known_at``.

    Parameters
    ----------
    make : callable
        Bars to ``symbol, session, t0, t1, known_at, target``.
    bars : polars.DataFrame
        ``symbol, session, open, high, low, close, volume``, and what else ``make`` reads.
    session_times : polars.DataFrame
        ``session, open_at, close_at``.
    cut_sessions : int or sequence of date
        After which sessions bars are changed; a number asks for that many, evenly spaced.

    Raises
    ------
    DatasetError
        When there are too few sessions to cut between, or as ``make``.
    """
    days = bars["session"].unique().sort()
    if isinstance(cut_sessions, int):
        inner = [round((len(days) - 1) * k / (cut_sessions + 1)) for k in range(1, cut_sessions + 1)]
        cuts = [days[k] for k in dict.fromkeys(inner) if 0 < k < len(days) - 1]
    else:
        cuts = sorted(set(cut_sessions))
    if not cuts:
        raise DatasetError(
            "proof of labels",
            expected="three sessions or more",
            found=f"{len(days)}",
            action="use a longer panel",
        )
    original = make(bars)
    trial = _Trial(original)
    trial.compare("repeated", pl.lit(value=True), make(bars))
    opens = dict(session_times.select("session", "open_at").iter_rows())
    closes = dict(session_times.select("session", "close_at").iter_rows())
    moved = undecided = 0
    for cut in cuts:
        later = make(_altered(bars, pl.col("session") > cut, FIELDS))
        trial.compare("bars_after_t1", pl.col("t1") <= closes[cut], later)
        # The open of that session stays: the label that ends with it has seen nothing else of the bar.
        within = _altered(bars, pl.col("session") > cut, ("open",))
        within = _altered(within, pl.col("session") >= cut, tuple(f for f in FIELDS if f != "open"))
        trial.compare("bar_of_t1_after_its_open", pl.col("t1") <= opens[cut], make(within))
        known = pl.col("known_at") <= closes[cut]
        if original.filter(known).height:
            trial.compare("bars_after_known_at", known, make(bars.filter(pl.col("session") <= cut)))
        open_ended = original.filter((pl.col("t0") <= closes[cut]) & (pl.col("t1") > closes[cut]))
        undecided += open_ended.height
        moved += trial.differing(open_ended, later).height
    if undecided and not moved:
        trial.violations["no_outcome"] = LabelViolation("no_outcome", "", cuts[-1], 0.0, None, undecided)
    return LabelReport(original.height, trial.compared, tuple(cuts), tuple(trial.violations.values()))


def _altered(bars: pl.DataFrame, where: pl.Expr, fields: Sequence[str]) -> pl.DataFrame:
    """Each value there multiplied by its own draw."""
    rng = np.random.default_rng(SEED)
    factors = {name: pl.Series(rng.uniform(*FACTORS, bars.height)) for name in fields}
    return bars.with_columns(
        pl.when(where).then(pl.col(name) * factor).otherwise(pl.col(name)).alias(name)
        for name, factor in factors.items()
    )


class _Trial:
    """The labels as they are, and what moved them so far."""

    def __init__(self, original: pl.DataFrame) -> None:
        self.original = original
        self.compared = 0
        self.violations: dict[Experiment, LabelViolation] = {}

    def compare(self, experiment: Experiment, settled: pl.Expr, other: pl.DataFrame) -> None:
        """Labels that were settled by what the *original* says: a label cannot excuse itself."""
        before = self.original.filter(settled)
        self.compared += before.height if experiment != "repeated" else 0
        wrong = self.differing(before, other)
        if wrong.height and experiment not in self.violations:
            row = wrong.sort("session", "symbol").row(0, named=True)
            self.violations[experiment] = LabelViolation(
                experiment, row["symbol"], row["session"], row["target"], row["target_other"], wrong.height
            )

    @staticmethod
    def differing(before: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
        """Rows that the other labels lack, or have with another time or target."""
        joined = before.join(other.select(*KEYS, *WHAT), on=KEYS, how="left", suffix="_other")
        close = (pl.col("target") - pl.col("target_other")).abs() <= TOLERANCE * pl.col("target").abs().clip(
            1.0
        )
        same = close & pl.all_horizontal(pl.col(n) == pl.col(f"{n}_other") for n in ("t1", "known_at"))
        return joined.filter(~same.fill_null(value=False))
