"""Files whole or not at all, on a disk and in an object store, and what is said when a store fails."""

import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from upath import UPath

from quant_assets.common.errors import ConfigurationError, StorageError, StoreError
from quant_assets.common.files import (
    Location,
    create_whole,
    is_url,
    located,
    make_folder,
    names_in,
    read_all,
    read_whole,
    shown,
    write_whole,
)
from quant_assets.common.pages import publish_page
from quant_assets.common.store import ArtifactStore
from quant_assets_tests.s3_server import KEY, SECRET, running_server


@pytest.fixture(params=["disk", "memory", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    if request.param == "disk":
        return located(tmp_path / "files")
    if request.param == "memory":
        return located(f"memory://{tmp_path.name}/files")
    return located(f"{request.getfixturevalue('bucket')}/files")


# ---------------------------------------------------------------------------------------------- whole, or not


def test_a_file_is_written_replaced_listed_and_read(folder: Location) -> None:
    assert read_whole(folder / "a") is None
    assert names_in(folder) == []
    make_folder(folder)
    write_whole(folder / "b", b"one")
    write_whole(folder / "a", b"two")
    write_whole(folder / "b", b"three", durable_name=True)
    make_folder(folder / "below")
    write_whole(folder / "below" / "c", b"four")
    assert names_in(folder) == ["a", "b", "below"]
    assert read_whole(folder / "b") == b"three"
    assert read_all(folder, ["a", "none", "b"]) == {"a": b"two", "none": None, "b": b"three"}
    assert read_all(folder, ["none"]) == {"none": None}
    assert read_all(folder, []) == {}


def test_a_file_is_created_once_and_the_first_writer_wins(folder: Location) -> None:
    make_folder(folder)
    assert create_whole(folder / "a", b"first")
    assert not create_whole(folder / "a", b"second")
    assert create_whole(folder / "a", b"first"), "the content is there, whoever wrote it"
    assert read_whole(folder / "a") == b"first"


def test_on_a_disk_nothing_is_left_beside_a_file_and_others_may_read_it(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", b"x")
    create_whole(tmp_path / "b", b"x")
    create_whole(tmp_path / "c", b"x", mode=0o600)
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["a", "b", "c"]
    assert [file.stat().st_mode & 0o777 for file in sorted(tmp_path.iterdir())] == [0o644, 0o644, 0o600]


def test_a_disk_that_refuses_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_whole(tmp_path / "a", b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for write in (write_whole, create_whole):
        with pytest.raises(OSError, match="No space left"):
            write(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


# -------------------------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("somewhere", False),
        ("/a/b", False),
        ("file:///a/b", False),
        ("s3://bucket/prefix", True),
        ("memory://x", True),
        (Path("/a"), False),
    ],
)
def test_a_url_is_told_from_a_folder(address: str | Path, url: bool) -> None:
    assert is_url(address) is url
    assert isinstance(located(address), Path) is not url


def test_a_file_url_is_the_folder_that_it_names(tmp_path: Path) -> None:
    assert located((tmp_path / "a b").as_uri()) == tmp_path / "a b"


def test_credentials_in_an_address_are_refused_and_not_shown() -> None:
    with pytest.raises(ConfigurationError, match="without credentials") as caught:
        located("s3://AKIA:hidden@bucket/prefix")
    assert "hidden" not in str(caught.value)
    assert shown("https://me:hidden@host/x") == "https://***@host/x"


def test_what_another_process_wrote_is_seen_at_once(bucket: str) -> None:
    folder = located(f"{bucket}/files")
    assert names_in(folder) == []
    code = "import sys; from quant_assets.common.files import *; write_whole(located(sys.argv[1]), b'x')"
    subprocess.run([sys.executable, "-c", code, f"{bucket}/files/a"], check=True)
    assert names_in(folder) == ["a"]


# ------------------------------------------------------------------------------------------------ in a bucket


def test_the_artifact_store_works_in_a_bucket_end_to_end(bucket: str) -> None:
    store = ArtifactStore(f"{bucket}/home/artifacts")
    sha256 = store.put(b"a model" * 100)
    assert store.get(sha256) == b"a model" * 100
    assert store.intact(sha256)
    assert str(store.path(sha256)) == f"{bucket}/home/artifacts/objects/{sha256[:2]}/{sha256}"
    store.path(sha256).write_bytes(b"a model" * 10)
    assert not store.intact(sha256)
    with pytest.raises(StoreError, match=r"truncated or altered.*materialise"):
        store.get(sha256)
    assert store.put(b"a model" * 100) == sha256
    assert store.get(sha256) == b"a model" * 100
    with pytest.raises(StoreError, match=r"nothing there.*materialise"):
        store.get("0" * 64)


def test_a_page_in_a_bucket_opens_in_a_browser(bucket: str) -> None:
    page = publish_page(located(f"{bucket}/home"), "tear-sheet", "<html>one</html>")
    assert str(page).startswith(f"{bucket}/home/reports/tear-sheet-")
    assert publish_page(located(f"{bucket}/home"), "tear-sheet", "<html>one</html>") == page
    assert isinstance(page, UPath)
    with urllib.request.urlopen(page.fs.sign(page.path)) as answer:
        assert answer.headers["Content-Type"] == "text/html"
        assert answer.read() == b"<html>one</html>"


# ------------------------------------------------------------------------------------------ a store that fails


def refused(store: ArtifactStore, text: str) -> str:
    """The one message with which reading and writing both stop."""
    said = set()
    for use in (lambda: store.get("0" * 64), lambda: store.put(b"x"), lambda: store.intact("0" * 64)):
        with pytest.raises(StorageError, match=text) as caught:
            use()
        assert caught.value.code == "QA703"
        said.add(str(caught.value).partition(": expected")[2])
    (message,) = said
    assert SECRET not in message
    assert KEY not in message
    return message


def test_a_store_that_cannot_be_reached_says_so_and_has_lost_nothing(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    sha256 = ArtifactStore(f"{bucket}/artifacts").put(b"kept")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
        away = ArtifactStore(f"{bucket}/artifacts", skip_instance_cache=True)
        assert "no connection to http://127.0.0.1:" in refused(away, "nothing stored is lost")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    assert ArtifactStore(f"{bucket}/artifacts").get(sha256) == b"kept"


def test_a_bucket_that_is_missing_is_named_and_never_made(bucket: str) -> None:
    message = refused(
        ArtifactStore(f"{bucket}-no/artifacts"), f"bucket {bucket[5:]}-no; found no such bucket"
    )
    assert "create it" in message
    refused(ArtifactStore(f"{bucket}-no/artifacts"), "no such bucket")


def test_wrong_credentials_are_refused_in_one_message() -> None:
    with running_server() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        bucket = server.make_bucket()
        ask = urllib.request.Request(
            f"{server.endpoint}/moto-api/reset-auth", data=b"0", headers={"Content-Type": "text/plain"}
        )
        urllib.request.urlopen(ask).close()  # from now on keys are looked at, and it knows none
        store = ArtifactStore(f"{bucket}/artifacts", skip_instance_cache=True)
        assert "refused (" in refused(store, "check the credentials")


def test_missing_credentials_are_named(bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))  # no file of the user's own
    refused(
        ArtifactStore(f"{bucket}/artifacts", skip_instance_cache=True), "AWS_ACCESS_KEY_ID and AWS_SECRET"
    )


def test_a_missing_package_is_named_with_how_to_get_it() -> None:
    code = (
        "import sys; sys.modules['s3fs'] = None\n"
        "from quant_assets.common.errors import StoreError\n"
        "from quant_assets.common.store import ArtifactStore\n"
        "try:\n    ArtifactStore('s3://bucket/home')\n"
        "except StoreError as error:\n    sys.stdout.write(str(error))"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert said == (
        "[QA703] storage s3://bucket/home: expected the package that reads s3:// addresses; "
        "found it is not installed. To do: install quant-assets[s3]."
    )


def test_an_unknown_kind_of_store_is_named() -> None:
    with pytest.raises(StorageError, match=r"found foo://.*correct the address"):
        located("foo://bucket/home")


def test_a_local_store_needs_no_package_of_a_bucket(tmp_path: Path) -> None:
    code = (
        "import sys; from quant_assets.common.store import ArtifactStore\n"
        "ArtifactStore(sys.argv[1]).put(b'x')\n"
        "assert not {'upath', 'fsspec', 's3fs'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
