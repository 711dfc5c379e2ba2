"""The artifact store: nothing is overwritten, and a damaged object is never read."""

import multiprocessing
import os
import signal
import time
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant_assets.common.errors import StoreError
from quant_assets.common.store import ArtifactStore, Table, decode, encode


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    root = tmp_path if request.param == "local" else f"memory://{tmp_path.name}"
    return ArtifactStore(root)


def test_what_is_put_is_got_under_its_sha256(store: ArtifactStore) -> None:
    sha256 = store.put(b"abc")
    assert sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert store.get(sha256) == b"abc"


def test_a_truncated_object_is_refused_with_its_path_and_then_replaced(store: ArtifactStore) -> None:
    sha256 = store.put(b"a model" * 100)
    store.path(sha256).write_bytes(b"a model" * 10)
    assert not store.intact(sha256)
    with pytest.raises(StoreError, match=r"truncated or altered.*materialise"):
        store.get(sha256)
    assert store.put(b"a model" * 100) == sha256
    assert store.get(sha256) == b"a model" * 100


def test_a_missing_object_says_what_to_do(store: ArtifactStore) -> None:
    with pytest.raises(StoreError, match=r"nothing there.*materialise"):
        store.get("0" * 64)


def test_putting_the_same_bytes_again_writes_nothing(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    path = Path(str(store.path(store.put(b"x"))))
    before = path.stat().st_mtime_ns
    store.put(b"x")
    assert path.stat().st_mtime_ns == before


def test_a_table_comes_back_with_its_metadata_and_version() -> None:
    table = Table(pl.DataFrame({"session": [date(2020, 1, 2)], "x": [None]}), {"recipe": "r1"})
    encoded = encode(table)
    back = decode(encoded.data, encoded.media_type)
    assert isinstance(back, Table)
    assert back.metadata == {"recipe": "r1"}
    assert back.frame.equals(table.frame)
    assert encode(back).version == encoded.version


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    )
)
def test_plain_data_survives_the_store(value: dict[str, object]) -> None:
    encoded = encode(value)
    assert decode(encoded.data, "json") == value


def _write_for_ever(root: str) -> None:
    store = ArtifactStore(root)
    for i in range(10**9):
        store.put(f"{i % 50}-".encode() * 200_000)


def test_a_writer_killed_at_any_moment_leaves_no_partial_object(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    for pause in (0.02, 0.05, 0.11):
        writer = context.Process(target=_write_for_ever, args=(str(tmp_path),))
        writer.start()
        objects = tmp_path / "objects"
        deadline = time.monotonic() + 60
        while not objects.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(pause)
        os.kill(writer.pid or 0, signal.SIGKILL)
        writer.join()
    store = ArtifactStore(tmp_path)
    stored = [p for p in tmp_path.glob("objects/*/*") if not p.name.startswith(".")]
    assert stored
    assert all(store.intact(p.name) for p in stored)
