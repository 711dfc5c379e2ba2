"""A home is a folder, or a URL with a folder beside it."""

import os
from pathlib import Path

import pytest
from upath import UPath

from quant_assets.cli.main import main
from quant_assets.common.errors import ConfigurationError, StorageError
from quant_assets.common.home import Home
from quant_assets.common.places import home_address, home_dir
from quant_assets.ledgers.promotions import PromotionLedger
from quant_assets.ledgers.trials import TrialLedger


def test_a_folder_is_all_of_a_home(tmp_path: Path) -> None:
    home = Home(root=str(tmp_path))
    assert home.path == home.local == tmp_path
    assert home.mlflow_uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert home.mlflow_artifacts == (tmp_path / "mlartifacts").as_uri()
    assert home.promotion_ledger == tmp_path / "promotions" / "ledger.jsonl"
    assert Home(root=tmp_path.as_uri()).path == tmp_path
    assert home.store.root == tmp_path / "artifacts"


def test_a_home_is_its_owners_alone_and_a_folder_for_everybody_stays_one(tmp_path: Path) -> None:
    def mode(folder: Path) -> int:
        return folder.stat().st_mode & 0o7777

    for name, before in (("new", None), ("of_before", 0o755), ("of_a_group", 0o770)):
        if before is not None:
            (tmp_path / name).mkdir()
            (tmp_path / name).chmod(before)
        Home(root=str(tmp_path / name)).local_folder("dagster", "a test")
        assert mode(tmp_path / name) == 0o700
    (tmp_path / "as_tmp").mkdir()
    (tmp_path / "as_tmp").chmod(0o1777)
    Home(root=str(tmp_path / "as_tmp")).local_folder("dagster", "a test")
    assert mode(tmp_path / "as_tmp") == 0o1777


def test_a_command_leaves_nothing_for_others_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.umask(0o022)
    try:
        monkeypatch.setattr("sys.argv", ["quant-assets", "--help"])
        with pytest.raises(SystemExit):
            main()
        assert os.umask(0o022) == 0o077
    finally:
        os.umask(before)


def test_without_an_address_it_is_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANT_ASSETS_HOME", str(tmp_path / "mine"))
    assert Home().path == Home().local == home_dir() == tmp_path / "mine"
    monkeypatch.delenv("QUANT_ASSETS_HOME")
    monkeypatch.chdir(tmp_path)
    assert home_address() == ".quant_assets"
    assert Home().path == Home().local == home_dir() == tmp_path / ".quant_assets"


def test_a_url_keeps_what_is_shared_and_a_folder_beside_it_what_is_local(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANT_ASSETS_HOME", f"memory://{tmp_path.name}/home")
    monkeypatch.setenv("QUANT_ASSETS_LOCAL", str(tmp_path / "local"))
    for home in (Home(), Home(root=f"memory://{tmp_path.name}/home")):
        assert isinstance(home.path, UPath)
        assert str(home.path) == f"memory://{tmp_path.name}/home"
        assert str(home.store.root) == f"memory://{tmp_path.name}/home/artifacts"
        assert str(home.promotion_ledger) == f"memory://{tmp_path.name}/home/promotions/ledger.jsonl"
        assert home.local == home_dir() == tmp_path / "local"
        assert home.mlflow_uri == f"sqlite:///{tmp_path}/local/mlflow.db"
        assert home.mlflow_artifacts == (tmp_path / "local" / "mlartifacts").as_uri()
        assert home.store.get(home.store.put(b"x")) == b"x"
        assert PromotionLedger(home.promotion_ledger).entries() == ()
        assert TrialLedger(home.path).trials("edge") == ()
    assert Home(root="memory://x", local_root=str(tmp_path / "other")).local == tmp_path / "other"
    assert not (tmp_path / "local").exists(), "nothing local was needed"


def test_the_folder_beside_a_url_is_the_default_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QUANT_ASSETS_LOCAL")
    monkeypatch.chdir(tmp_path)
    assert Home(root="s3://bucket/home").local == tmp_path / ".quant_assets"


def test_the_folder_beside_a_url_cannot_be_one_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANT_ASSETS_LOCAL", "s3://me:hidden@bucket/local")
    with pytest.raises(ConfigurationError, match=r"QUANT_ASSETS_LOCAL.*local folder") as caught:
        _ = Home(root="s3://bucket/home").local
    assert "hidden" not in str(caught.value)


def test_a_local_folder_is_made_or_says_what_needs_it(tmp_path: Path) -> None:
    home = Home(root="memory://x", local_root=str(tmp_path / "local"))
    assert home.local_folder("dagster", "Dagster's instance").is_dir()
    (tmp_path / "file").write_text("in the way")
    home = Home(root="memory://x", local_root=str(tmp_path / "file"))
    with pytest.raises(ConfigurationError, match=r"for Dagster's instance.*QUANT_ASSETS_LOCAL"):
        home.local_folder("dagster", "Dagster's instance")


def test_a_home_in_a_kind_of_store_that_is_unknown_says_so() -> None:
    with pytest.raises(StorageError, match="foo://"):
        _ = Home(root="foo://bucket/home").path


def test_a_home_in_a_bucket_holds_artifacts_and_ledgers(bucket: str) -> None:
    home = Home(root=f"{bucket}/team")
    sha256 = home.store.put(b"x")
    assert Home(root=f"{bucket}/team").store.get(sha256) == b"x"
    assert PromotionLedger(home.promotion_ledger).verify().n_entries == 0
    assert TrialLedger(home.path).snapshot("edge").n_trials == 0
