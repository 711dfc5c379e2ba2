"""Content hashing: one function per kind of thing, all SHA-256, none of them over file formats.

Parquet bytes change with the writer's version, so a frame is hashed by its *logical* content: column names,
dtypes, validity and values. Code is fingerprinted by `quant_assets.common.provenance`.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl


def bytes_digest(data: bytes) -> str:
    """SHA-256 of raw bytes as 64 hexadecimal characters."""
    return hashlib.sha256(data).hexdigest()


def canonical_json(value: Any) -> bytes:
    """Encode plain data as canonical JSON: sorted keys, no spaces, no NaN, UTF-8.

    Raises
    ------
    ValueError
        When ``value`` holds NaN or infinity, which JSON cannot carry.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def json_digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of plain data."""
    return bytes_digest(canonical_json(value))


def frame_digest(frame: pl.DataFrame, metadata: Mapping[str, str] | None = None) -> str:
    """SHA-256 of a frame's logical content: names, dtypes, validity, values, in row order.

    Parameters
    ----------
    frame : polars.DataFrame
        Any frame of flat columns (numbers, strings, booleans, dates, datetimes).
    metadata : mapping of str to str, optional
        Facts that travel with the frame and are part of its identity.

    Notes
    -----
    NaN payloads and the sign of zero are kept: two frames are equal only when their bits are. Values under a
    null are not read.
    """
    digest = hashlib.sha256()
    digest.update(json_digest(dict(metadata or {})).encode())
    digest.update(str(frame.height).encode())
    for series in frame.get_columns():
        digest.update(f"\x00{series.name}\x00{series.dtype}\x00".encode())
        validity = series.is_not_null()
        digest.update(b"\x01" if validity.all() else validity.cast(pl.UInt8).to_numpy().tobytes())
        if series.dtype == pl.String:
            text = series.fill_null("")
            digest.update(text.str.len_bytes().to_numpy().tobytes())
            digest.update("".join(text.to_list()).encode())
        else:
            values = series.to_physical()
            if values.dtype == pl.Boolean:
                values = values.cast(pl.UInt8)
            digest.update(values.fill_null(0).to_numpy().tobytes())
    return digest.hexdigest()


def digests_by(frame: pl.DataFrame, name: str) -> dict[str, str]:
    """What `frame_digest` gives of the rows of each value of a text column, for rows that lie together.

    Parameters
    ----------
    frame : polars.DataFrame
        Rows of equal ``name`` next to one another.
    name : str
        A column of text without nulls.

    Returns
    -------
    dict of str to str
        By value, in the order of the frame.

    Notes
    -----
    Columns become arrays once and not once for each value: of 13,200 names and years of 3 M rows 1 s and not 13.
    """
    runs = frame.get_column(name).rle().struct.unnest()
    ends = runs["len"].cast(pl.Int64).cum_sum().to_list()
    starts = [0, *ends][:-1]
    digests = [hashlib.sha256() for _ in starts]
    nothing = json_digest({}).encode()
    for digest, start, end in zip(digests, starts, ends, strict=True):
        digest.update(nothing)
        digest.update(str(end - start).encode())
    for series in frame.get_columns():
        head = f"\x00{series.name}\x00{series.dtype}\x00".encode()
        valid = series.is_not_null()
        whole = valid.all()
        validity = valid.cast(pl.UInt8).to_numpy()
        if series.dtype == pl.String:
            text = series.fill_null("")
            lengths, texts = text.str.len_bytes().to_numpy(), text.to_list()
            content = [
                (lengths[a:b], "".join(texts[a:b]).encode()) for a, b in zip(starts, ends, strict=True)
            ]
        else:
            physical = series.to_physical()
            physical = physical.cast(pl.UInt8) if physical.dtype == pl.Boolean else physical
            values = physical.fill_null(0).to_numpy()
            content = [(values[a:b], b"") for a, b in zip(starts, ends, strict=True)]
        for digest, start, end, (array, more) in zip(digests, starts, ends, content, strict=True):
            digest.update(head)
            full = whole or bool(validity[start:end].all())
            digest.update(b"\x01" if full else validity[start:end].tobytes())
            digest.update(array.tobytes())
            if more:
                digest.update(more)
    named = runs["value"].to_list()
    return {value: digest.hexdigest() for value, digest in zip(named, digests, strict=True)}


def combined_fingerprint(parts: Iterable[str]) -> str:
    """Fingerprint of several fingerprints in a fixed order: 40 hexadecimal characters.

    40 characters, because a Dagster tag value ends at 63 and a full digest has 64.
    """
    return bytes_digest("\x00".join(parts).encode())[:40]
