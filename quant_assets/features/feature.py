"""What one feature is, declared as data: its name, warm-up, unit, formula and source."""

from dataclasses import dataclass
from typing import Literal

from quant_assets.common.errors import FeatureError

Unit = Literal[
    "fraction",
    "percent",
    "index_0_100",
    "standard_deviations",
    "share_-1_1",
    "band_position",
    "band_half_widths",
    "average_true_ranges",
    "ratio",
    "centred_rank",
    "number",
]


@dataclass(frozen=True)
class Feature:
    """One column of a pack.

    Parameters
    ----------
    name : str
        Column name.
    warm_up : int
        Leading bars of each symbol that are masked. At least ``lookback``; more where the feature is
        recursive and what lies before the history still shows.
    unit : str
        What one unit of the value is.
    formula : str
        Definition, with the values of the degenerate cases. Part of the pack's fingerprint.
    source : str
        Publication or reference implementation that fixes the convention.
    lookback : int
        Leading bars for which the formula has no value at all.
    """

    name: str
    warm_up: int
    unit: Unit
    formula: str
    source: str
    lookback: int

    def __post_init__(self) -> None:
        if not 0 <= self.lookback <= self.warm_up:
            raise FeatureError(
                f"feature {self.name!r}",
                expected="0 <= lookback <= warm_up (bars)",
                found=f"lookback {self.lookback}, warm_up {self.warm_up}",
                action="declare at least the bars without which the formula has no value",
            )

    def as_list(self) -> list[object]:
        """What a reader is promised, as plain data for the declaration of the pack."""
        return [self.name, self.warm_up, self.lookback, self.unit, self.formula]


@dataclass(frozen=True)
class CrossSection:
    """The second stage of a pack: features across the symbols of a session.

    Parameters
    ----------
    step : str
        ``module:function`` of the step, called as ``step(values, starts, first, last, minimum, out)`` with
        rows ordered by (session, symbol), see `quant_assets.features.kernels.cross_sectional.rank_and_score`.
    inputs : tuple of Feature
        What the block kernel of the pack writes for each symbol, in order, in float64.
    reads : tuple of tuple of str
        For each feature of the pack, in order, the inputs it is made of. A symbol takes part in a session
        when it has a bar there and none of these is masked.
    min_symbols : int
        With fewer symbols taking part, the feature is null in that session.
    """

    step: str
    inputs: tuple[Feature, ...]
    reads: tuple[tuple[str, ...], ...]
    min_symbols: int

    def as_list(self) -> list[object]:
        """Plain data for the declaration of the pack."""
        return [[f.as_list() for f in self.inputs], [list(read) for read in self.reads], self.min_symbols]
