"""Bars from files of the file system and of the installed package."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

import polars as pl

from quant_assets.common.errors import BarContractError
from quant_assets.common.settings import BokehSource, UniverseConfig
from quant_assets.market.bar_source import Holdings, SourceRead, State, holdings_of
from quant_assets.market.files import BarFile, FileSource, files_of, read_bar_file


@dataclass(frozen=True)
class FileBars:
    """Every file that a source names, as one feed."""

    config: FileSource

    @property
    def provider(self) -> str:
        """Package and version, or kind and path."""
        if isinstance(self.config, BokehSource):
            return f"bokeh_sampledata {version('bokeh_sampledata')}"
        return f"{self.config.kind} {self.config.path}"

    def state(self, universe: UniverseConfig) -> State:
        """Path, inode, size and times of every file as it is now."""
        states = []
        for file in files_of(self.config):
            stat = file.stat()
            states.append(
                (str(file.resolve()), stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
            )
        return tuple(states)

    def read(self, universe: UniverseConfig) -> SourceRead:
        """All rows of all files: also what lies outside the universe is judged."""
        return self.read_everything()

    def read_everything(self) -> SourceRead:
        """All rows of all files.

        Raises
        ------
        SourceError, BarContractError
            As `quant_assets.market.files.read_bar_file`; when two files have the same bar.
        """
        paths = files_of(self.config)
        files = [read_bar_file(path, self.config) for path in paths]
        _refuse_overlap(files, [path.name for path in paths])
        mapping: dict[str, str] = {}
        notes: dict[str, None] = {}  # a set in order of appearance
        for path, file in zip(paths, files, strict=True):
            notes.update(dict.fromkeys(file.notes))
            for ours, theirs in file.column_mapping.items():
                if mapping.setdefault(ours, theirs) != theirs:
                    notes[f"{path.name}: {ours} is {theirs!r}, elsewhere {mapping[ours]!r}"] = None
        bars = pl.concat(file.bars for file in files).sort("symbol", "session")
        return SourceRead(bars, self.provider, mapping, tuple(notes), len(files))

    def holdings(self, universe: UniverseConfig) -> Holdings:
        """Symbols and dates of all rows."""
        return holdings_of(self.read_everything().bars)


def _refuse_overlap(files: Sequence[BarFile], names: Sequence[str]) -> None:
    """Refuse a bar that two files have (within one file the contract has done so already)."""
    if len(files) == 1:
        return
    key = ["symbol", "session"]
    numbered = pl.concat(
        file.bars.select(*key, file=pl.lit(number, dtype=pl.UInt32)) for number, file in enumerate(files)
    )
    repeated = (
        numbered.group_by(key).agg(pl.col("file").sort()).filter(pl.col("file").list.len() > 1).sort(key)
    )
    if repeated.height:
        shown = "; ".join(
            f"{symbol} {session} in {' and '.join(names[number] for number in numbers)}"
            for symbol, session, numbers in repeated.head(5).iter_rows()
        )
        raise BarContractError(
            f"{repeated.height} bars in {len(files)} files",
            expected="one row for each symbol and session over all files",
            found=shown,
            action="let `path:` match only one of the overlapping files",
        )
