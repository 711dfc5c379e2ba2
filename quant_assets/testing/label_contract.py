"""What every label of a desk's own has to keep, as tests that its own test class inherits."""

from collections.abc import Mapping
from typing import Any, ClassVar

import polars as pl

from quant_assets.common.label_settings import LabelConfig, Target
from quant_assets.datasets.custom_labels import raw_labels
from quant_assets.datasets.label_kinds import make_labels
from quant_assets.datasets.label_proof import LabelReport, prove_labels
from quant_assets.testing.random_market import random_market, times

# The proof of each test class, made once.
_REPORTS: dict[type, LabelReport] = {}


class LabelContract:
    """Tests of one label on a seeded market without an edge.

    Attributes
    ----------
    label : str or callable
        ``module:object`` as ``label.kind`` of a strategy would say, or the function itself.
    horizon_sessions : int
    options : mapping
    target : {"number", "class"}
    n_sessions : int
        Of the market; more for a label that needs a long history.

    Examples
    --------
    ::

        class TestCappedReturn(LabelContract):
            label = "my_desk.labels:capped_return"
            options = {"cap": 0.2}
    """

    label: ClassVar[Any]
    horizon_sessions: ClassVar[int] = 5
    options: ClassVar[Mapping[str, Any]] = {}
    target: ClassVar[Target | None] = None
    n_sessions: ClassVar[int] = 400

    @classmethod
    def config(cls) -> LabelConfig:
        """The section ``label`` of a strategy that uses it."""
        named = cls.__dict__.get("label", cls.label)
        function = named.__func__ if isinstance(named, staticmethod) else named
        kind = function if isinstance(function, str) else f"{function.__module__}:{function.__qualname__}"
        return LabelConfig(
            kind=kind, horizon_sessions=cls.horizon_sessions, options=dict(cls.options), target=cls.target
        )

    @classmethod
    def bars(cls) -> pl.DataFrame:
        """The market."""
        return random_market(8, cls.n_sessions)

    @classmethod
    def make(cls, bars: pl.DataFrame) -> pl.DataFrame:
        """The labels of these bars: ``symbol, session, t0, t1, known_at, target``."""
        if cls.config().plugin is None:
            made = make_labels(bars, times(cls.n_sessions), cls.config())
            return made if "target" in made.columns else made.rename({"forward_return": "target"})
        return raw_labels(bars, times(cls.n_sessions), cls.config())

    @classmethod
    def report(cls) -> LabelReport:
        """What `quant_assets.datasets.prove_labels` finds."""
        if cls not in _REPORTS:
            _REPORTS[cls] = prove_labels(cls.make, cls.bars(), times(cls.n_sessions))
        return _REPORTS[cls]

    def test_its_rows_keep_the_contract(self) -> None:
        """One row a bar, its times in order and in the calendar, a finite target: anything else raises."""
        _require(self.make(self.bars()).height > 0, "no label at all")

    def test_it_fits_into_a_training_set(self) -> None:
        """Rows that can be traded, ending by the horizon; of a class 0 and 1, both of them."""
        made = make_labels(self.bars(), times(self.n_sessions), self.config())
        if self.config().learnt_as == "direction" and "target" in made.columns:
            _require(set(made["target"].unique()) == {0, 1}, "only one of the classes 0 and 1")

    def test_two_computations_are_the_same(self) -> None:
        """Nothing of chance, of the clock or of an earlier call is in a label."""
        self._refuse("repeated")

    def test_no_target_uses_bars_after_its_own_t1(self) -> None:
        """Purging keeps apart what overlaps by ``t0`` and ``t1``: a label that sees further is missed by it."""
        self._refuse("bars_after_t1", "bar_of_t1_after_its_open")

    def test_a_label_is_there_when_it_says_that_it_is_known(self) -> None:
        """With the bars up to ``known_at`` and no other one it is the same."""
        self._refuse("bars_after_known_at")

    def test_it_depends_on_what_happens_after_the_decision(self) -> None:
        """A target of past bars alone is a feature."""
        self._refuse("no_outcome")
        _require(self.report().compared > 0, "no label could be compared: raise n_sessions")

    def _refuse(self, *experiments: str) -> None:
        found = [str(v) for v in self.report().violations if v.experiment in experiments]
        _require(not found, "; ".join(found))


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)
