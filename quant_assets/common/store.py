"""The artifact store: immutable objects addressed by the SHA-256 of their bytes.

An object is written once, whole (temporary file, fsync, rename; one PUT on object stores), and is hashed
again whenever it is read. Nothing is ever overwritten, so nothing that exists can be lost by a failed write.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import polars as pl

from quant_assets.common.errors import StoreError
from quant_assets.common.files import Address, Location, located, make_folder, read_whole, shown, write_whole
from quant_assets.common.hashing import bytes_digest, canonical_json, frame_digest

MediaType = Literal["table", "json", "text", "bytes"]


@dataclass(frozen=True)
class Table:
    """A frame with the facts that travel with it (subject, recipe, units) and belong to its identity."""

    frame: pl.DataFrame
    metadata: Mapping[str, str] = field(default_factory=dict)


Value = Table | str | bytes | dict[str, Any] | list[Any]


@dataclass(frozen=True)
class Encoded:
    """A value in storable form: its bytes, how to read them back, and the digest of its logical content."""

    data: bytes
    media_type: MediaType
    version: str


def media_type_of(value: Value) -> MediaType:
    """How the store keeps a value."""
    match value:
        case Table():
            return "table"
        case bytes():
            return "bytes"
        case str():
            return "text"
        case _:
            return "json"


def identity_of(value: Value) -> str:
    """Version of a value: what `encode` gives, without its bytes."""
    if isinstance(value, Table):
        return frame_digest(value.frame, value.metadata)
    if isinstance(value, bytes | str):
        return bytes_digest(value if isinstance(value, bytes) else value.encode())
    return bytes_digest(canonical_json(value))


def encode(value: Value) -> Encoded:
    """Encode a value for the store. Tables become Parquet, plain data canonical JSON."""
    if isinstance(value, Table):
        buffer = io.BytesIO()
        value.frame.write_parquet(buffer, compression="zstd", metadata=dict(value.metadata))
        return Encoded(buffer.getvalue(), "table", frame_digest(value.frame, value.metadata))
    if isinstance(value, bytes):
        return Encoded(value, "bytes", bytes_digest(value))
    if isinstance(value, str):
        data = value.encode()
        return Encoded(data, "text", bytes_digest(data))
    data = canonical_json(value)
    return Encoded(data, "json", bytes_digest(data))


def decode(data: bytes, media_type: MediaType) -> Value:
    """Decode what `encode` made. Never unpickles anything."""
    match media_type:
        case "table":
            metadata = pl.read_parquet_metadata(io.BytesIO(data))
            metadata.pop("ARROW:schema", None)
            return Table(pl.read_parquet(io.BytesIO(data)), metadata)
        case "json":
            value: Value = json.loads(data)
            return value
        case "text":
            return data.decode()
        case "bytes":
            return data


class ArtifactStore:
    """Content-addressed objects below one root, local or in a bucket.

    Parameters
    ----------
    root : str, Path or UPath
        Folder or URL (``s3://bucket/prefix``, ``memory://x``) that holds ``objects/<aa>/<sha256>``.
    **storage_options
        For the store's fsspec package, where the environment does not say it all.
    """

    def __init__(self, root: Address, **storage_options: Any) -> None:
        self.root = located(root, **storage_options)

    def path(self, sha256: str) -> Location:
        """Where the object with this digest is, or would be."""
        return self.root / "objects" / sha256[:2] / sha256

    def put(self, data: bytes) -> str:
        """Store bytes and return their digest. Storing what is already there and intact writes nothing.

        Raises
        ------
        StorageError
            When the store refuses or does not answer; what was stored before stays.
        """
        sha256 = bytes_digest(data)
        if not self.intact(sha256):
            target = self.path(sha256)
            make_folder(target.parent)
            write_whole(target, data)
        return sha256

    def get(self, sha256: str) -> bytes:
        """Read an object and hash it again.

        Raises
        ------
        StoreError
            When the object is missing, or its bytes are not those it was stored with.
        StorageError
            When the store cannot say: its bucket is missing, unreachable or closed to us.
        """
        target = self.path(sha256)
        data = read_whole(target)
        if data is None:
            raise StoreError(
                f"object {sha256[:12]}",
                expected=f"a file at {shown(target)}",
                found="nothing there",
                action="materialise the asset that made it again (same inputs give the same object)",
            )
        actual = bytes_digest(data)
        if actual != sha256:
            raise StoreError(
                f"object {sha256[:12]} at {shown(target)}",
                expected=f"bytes with SHA-256 {sha256}",
                found=f"{len(data)} bytes with SHA-256 {actual} (truncated or altered)",
                action="materialise the asset that made it again; the damaged object is replaced, never read",
            )
        return data

    def intact(self, sha256: str) -> bool:
        """Whether the object exists and its bytes still match its address."""
        data = read_whole(self.path(sha256))
        return data is not None and bytes_digest(data) == sha256
