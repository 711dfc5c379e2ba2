"""Bars from a seed."""

from dataclasses import dataclass

from quant_assets.common.settings import SyntheticSource, UniverseConfig
from quant_assets.market.sources.bar_source import Holdings, SourceRead, State, holdings_of
from quant_assets.market.sources.contract import validate_bars
from quant_assets.market.synthetic import generate


@dataclass(frozen=True)
class SyntheticBars:
    """A generated feed: the configuration and the universe's dates are all there is to it."""

    config: SyntheticSource

    @property
    def provider(self) -> str:
        """The seed."""
        return f"synthetic seed {self.config.seed}"

    def state(self, universe: UniverseConfig) -> State:
        """Nothing outside the configuration can change."""
        return ()

    def read(self, universe: UniverseConfig) -> SourceRead:
        """Generate the universe's dates; what was planted is in the notes."""
        source = self.config
        feed = generate(source, universe.calendar, universe.start, universe.end)
        notes = []
        if source.edge is not None:
            notes.append(
                f"planted edge: transient sd {source.edge.transient_sd}, "
                f"half-life {source.edge.half_life_sessions} sessions"
            )
        if source.drift is not None:
            notes.append(
                f"planted drift from {source.drift.start}: volatility x {source.drift.volatility_factor}, "
                f"volume x {source.drift.volume_factor}"
            )
        notes.extend(
            f"planted defect: {d.kind}, symbol {d.symbol}, session {d.session}" for d in source.defects
        )
        bars = validate_bars(feed, origin=f"{self.provider} (universe {universe.name})")
        return SourceRead(bars, self.provider, {name: name for name in feed.columns}, tuple(notes), n_files=0)

    def holdings(self, universe: UniverseConfig) -> Holdings:
        """Symbols and dates of the generated feed."""
        return holdings_of(self.read(universe).bars)
