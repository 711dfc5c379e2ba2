"""One version of an asset, as the next stage receives it: stored in the artifact store, or held in memory."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

from quant_assets.common.errors import StoreError
from quant_assets.common.hashing import bytes_digest
from quant_assets.common.store import (
    ArtifactStore,
    Encoded,
    MediaType,
    Table,
    Value,
    decode,
    encode,
    identity_of,
    media_type_of,
)
from quant_assets.features.pack import pack_name

# How data is hashed, first part of every data version: other hashing, other versions, whatever the content.
HASHING = "h1"


def stated(version: str) -> str:
    """A digest of content as a data version, which says how it was hashed."""
    return f"{HASHING}-{version}"


def part_name(asset: str, partition: str | None) -> str:
    """An asset, or one partition of it, as people write it: ``universe/raw_bars[2017]``."""
    return asset + (f"[{partition}]" if partition else "")


@dataclass(frozen=True)
class Artifact:
    """One stored version of an asset, read when asked for.

    Attributes
    ----------
    key : str
        ``universe/name`` or ``strategy/name``, for messages.
    version : str
        Digest of the logical content.
    sha256 : str
        Address of the bytes.
    """

    key: str
    version: str
    sha256: str
    media_type: MediaType
    store: ArtifactStore

    def _read(self, expected: MediaType) -> Any:
        if self.media_type != expected:
            raise StoreError(
                f"asset {self.key}",
                expected=f"a stored {expected}",
                found=f"a stored {self.media_type}",
                action="materialise it again with the current code",
            )
        return decode(self.raw(), self.media_type)

    def raw(self) -> bytes:
        """The bytes as they are stored."""
        return self.store.get(self.sha256)

    def whole(self, partition: str | None = None) -> "Artifact":
        """This artifact, once its object was found as it was stored.

        Raises
        ------
        StoreError
            When the object is lost or damaged.
        """
        if not self.store.intact(self.sha256):
            name = part_name(self.key, partition)
            path = self.store.path(self.sha256)
            raise StoreError(
                f"vintage {self.version[:12]} of {name}",
                expected=f"its object at {path}",
                found="bytes that are not those it was stored with" if path.exists() else "nothing there",
                action="restore the object from a backup of the artifact store; when the source still gives the same "
                "bars, materialising the partition again makes it too",
            )
        return self

    def table(self) -> Table:
        """The artifact as a frame with its metadata."""
        table: Table = self._read("table")
        return table

    def json(self) -> Any:
        """The artifact as plain data, a new copy each time."""
        return self._read("json")

    def text(self) -> str:
        """The artifact as text."""
        text: str = self._read("text")
        return text

    def data(self) -> bytes:
        """The artifact as raw bytes."""
        data: bytes = self._read("bytes")
        return data


class Held(Artifact):
    """A version that exists in this process only. Frames are handed on as they are, everything else as its bytes."""

    value: Value

    def __init__(self, key: str, value: Value) -> None:
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "value", value)

    @cached_property
    def version(self) -> str:
        """Digest of the logical content, taken when somebody asks for it."""
        return identity_of(self.value)

    @cached_property
    def media_type(self) -> MediaType:
        """How a store would keep it."""
        return media_type_of(self.value)

    @cached_property
    def encoded(self) -> Encoded:
        """The bytes that a store would keep."""
        value: Value = self.value
        return encode(value)

    @property
    def sha256(self) -> str:
        """Address that the bytes would have."""
        return bytes_digest(self.encoded.data)

    def raw(self) -> bytes:
        """The bytes that a store would keep."""
        return self.encoded.data

    def table(self) -> Table:
        """The frame itself: polars frames do not change in place."""
        value: Value = self.value
        return value if isinstance(value, Table) else super().table()


@dataclass(frozen=True)
class Partitions:
    """Every partition of an upstream asset, in key order."""

    parts: dict[str, Artifact]

    @property
    def version(self) -> str:
        """The versions of all partitions, joined: changes when any of them does."""
        return ",".join(f"{key}={part.version}" for key, part in sorted(self.parts.items()))

    def __iter__(self) -> Iterator[Artifact]:
        return iter(part for _, part in sorted(self.parts.items()))


# What `panel` is: the first of these that a universe has. Where one source is configured the years of `raw_bars`,
# where there are several `reconciled_bars`, where listings say which instrument a symbol was `listed_bars`, and of
# futures that are rolled `front_bars`.
FEEDS = ("reconciled_bars", "raw_bars")  # as the sources give them
PANELS = ("front_bars", "listed_bars", *FEEDS)
Panel = Artifact | Partitions


def encoded_whole(made: Artifact | Partitions) -> Encoded:
    """What a data set's asset stores; of several partitions one table, in their order."""
    if isinstance(made, Held):
        return made.encoded
    if isinstance(made, Artifact):
        return Encoded(made.raw(), made.media_type, made.version)
    tables = [part.table() for part in made]
    return encode(Table(pl.concat([table.frame for table in tables]), tables[0].metadata))


def frame_of(panel: Panel) -> pl.DataFrame:
    """All bars in one frame, sorted by symbol and session: one artifact, or one for each year."""
    if isinstance(panel, Artifact):
        return panel.table().frame
    frames = [part.table().frame for part in panel]
    order = ["symbol", "session", *(["source"] if "source" in frames[0].columns else [])]
    return pl.concat(frames).sort(order)


def asset_name(pack: str) -> str:
    """Name of a pack's asset: ``technical_v1`` is ``technical_features``, ``technical_v2`` has its version in it.

    It depends on the pack alone, so a second version in a universe renames nothing and collides with nothing. One
    that is named as ``module:object`` has the name that it gives itself.
    """
    name = pack_name(pack)
    family, _, version = name.rpartition("_v")
    return f"{family}_features" if version == "1" else f"{name}_features"


def by_pack(features: Mapping[str, Artifact], packs: Sequence[str]) -> dict[str, Table]:
    """The tables of these packs, in their order."""
    return {pack: features[asset_name(pack)].table() for pack in packs}
