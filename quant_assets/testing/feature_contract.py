"""What every feature pack of a desk's own has to keep, as tests that its own test class inherits."""

from typing import Any, ClassVar

import polars as pl

from quant_assets.common.plugins import Plugin
from quant_assets.features import CausalityReport, Pack, compute, find_pack, prove_causal
from quant_assets.testing.random_market import random_market

# Beside the warm-up: enough for every experiment to compare something.
FURTHER_SESSIONS = 400

# The proof of each test class, made once.
_REPORTS: dict[type, CausalityReport] = {}


class FeaturePackContract:
    """Tests of one pack on a seeded market without an edge.

    Attributes
    ----------
    pack : Pack, str or dict
        The pack; or what ``feature_packs`` of a strategy would say: ``module:object``, or ``{use, options}``.
    n_symbols : int
        Names of the market, 4 or more.

    Examples
    --------
    ::

        class TestMomentum(FeaturePackContract):
            pack = "my_desk.features:momentum_v1"
    """

    pack: ClassVar[Any]
    n_symbols: ClassVar[int] = 12

    @classmethod
    def chosen(cls) -> Pack:
        """The pack on trial."""
        if isinstance(cls.pack, Pack):
            return cls.pack
        return find_pack(Plugin.model_validate(cls.pack).text)

    @classmethod
    def bars(cls) -> pl.DataFrame:
        """The market: as long as the pack needs to warm up, and `FURTHER_SESSIONS` more."""
        return random_market(cls.n_symbols, cls.chosen().warm_up + FURTHER_SESSIONS)

    @classmethod
    def report(cls) -> CausalityReport:
        """What `quant_assets.features.prove_causal` finds."""
        if cls not in _REPORTS:
            _REPORTS[cls] = prove_causal(cls.bars(), cls.chosen())
        return _REPORTS[cls]

    def test_no_value_changes_when_later_bars_change(self) -> None:
        """The causality proof: neither of its own symbol, nor across symbols."""
        _refuse_violations(self.report(), "altered_future", "removed_future")

    def test_no_value_changes_when_prices_or_volumes_are_rescaled(self) -> None:
        """A later split rescales all history: a level would tell of it."""
        _refuse_violations(self.report(), "rescaled")

    def test_no_value_after_the_warm_up_changes_when_older_bars_are_cut_off(self) -> None:
        """The warm-up, declared or measured, is long enough."""
        _refuse_violations(self.report(), "shortened_past")

    def test_every_feature_has_values_that_the_proof_could_compare(self) -> None:
        """No evidence is no proof."""
        _require(not self.report().unproven, f"no value to compare for {', '.join(self.report().unproven)}")

    def test_there_is_one_row_for_each_bar_in_order(self) -> None:
        """Features align with bars, whatever the order of these."""
        bars, keys = self.bars(), ["symbol", "session"]
        made = compute(bars.sort("session", "symbol", descending=[False, True]), self.chosen())
        _require(made.select(keys).equals(bars.select(keys)), "rows are not those of the bars")
        _require(tuple(made.columns) == (*keys, *self.chosen().names), f"columns {', '.join(made.columns)}")
        wrong = [n for n in self.chosen().names if made.schema[n] != pl.Float32]
        _require(not wrong, f"no float32: {', '.join(wrong)}")

    def test_two_computations_have_the_same_bits(self) -> None:
        """Nothing of chance, of the clock or of an earlier call is in a value."""
        one, other = (compute(self.bars(), self.chosen()) for _ in range(2))
        moved = [name for name in self.chosen().names if not one[name].equals(other[name])]
        _require(not moved, f"another value the second time: {', '.join(moved)}")

    def test_a_symbol_alone_has_the_values_that_it_has_among_others(self) -> None:
        """Of a pack that is computed per symbol: no other symbol is in a value."""
        if self.chosen().across:
            return
        every = compute(self.bars(), self.chosen())
        for symbol in ("S0", "S3"):
            alone = compute(self.bars().filter(pl.col("symbol") == symbol), self.chosen())
            among = every.filter(pl.col("symbol") == symbol)
            moved = [name for name in self.chosen().names if not alone[name].equals(among[name])]
            _require(not moved, f"{symbol} alone has other values of {', '.join(moved)}")

    def test_the_first_bars_of_each_symbol_are_masked_for_the_warm_up(self) -> None:
        """No value is seen before it has settled."""
        made = compute(self.bars(), self.chosen())
        for feature in self.chosen().features:
            head = made.group_by("symbol").head(feature.warm_up)
            _require(
                head[feature.name].null_count() == head.height, f"{feature.name} shows while it warms up"
            )


def _refuse_violations(report: CausalityReport, *experiments: str) -> None:
    found = [
        f"{v.feature}: {v.experiment} moved {v.count} values, the first of {v.symbol} on {v.session} "
        f"from {v.original} to {v.moved}"
        for v in report.violations
        if v.experiment in experiments
    ]
    _require(not found, "; ".join(found))


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)
