"""The whole lineage with its home in a bucket: objects, both ledgers and the reports live there, and runs go on."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from quant_assets.common.files import located
from quant_assets.common.home import Home
from quant_assets.definitions import build_definitions
from quant_assets.defs.running import open_instance, run_strategies
from quant_assets.defs.storage import Home as HomeResource
from quant_assets.defs.storage import latest_event
from quant_assets.ledgers.promotions import PromotionLedger
from quant_assets.ledgers.trials import TrialLedger
from quant_assets.lineage import Lineage, load_settings
from quant_assets.registry.champion import current_champion
from quant_assets_tests.e2e.lineage import write_configuration


@pytest.fixture
def in_bucket(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Lineage, dg.DagsterInstance, Home]]:
    """The small lineage over an empty bucket, with a local folder for what has to be local."""
    local = tmp_path / "local"
    monkeypatch.setenv("QUANT_ASSETS_LOCAL", str(local))
    settings = load_settings(write_configuration(tmp_path / "configs"), tmp_path / "none")
    home = Home(f"{bucket}/desk")
    with open_instance(local) as instance:
        yield Lineage(settings), instance, home


@pytest.mark.drill
def test_a_strategy_is_promoted_in_a_bucket_and_a_second_run_reads_it_back(
    in_bucket: tuple[Lineage, dg.DagsterInstance, Home], tmp_path: Path
) -> None:
    lineage, instance, home = in_bucket
    definitions = build_definitions(lineage.settings, HomeResource(root=home.root))

    def run() -> str:
        (outcome,) = run_strategies(definitions, lineage, ["edge"], instance, home, lambda _: None)
        assert outcome.tear_sheet is not None
        assert b"<html" in located(str(outcome.tear_sheet)).read_bytes()
        return outcome.decision

    assert run() == "promoted"
    # Everything that is shared is in the bucket, and nothing of it on this machine.
    assert {part.name for part in home.path.iterdir()} >= {"artifacts", "trials", "promotions", "reports"}
    here = {part.name for part in (tmp_path / "local").iterdir()}
    assert not here & {"artifacts", "trials", "promotions", "reports"}
    assert len(TrialLedger(home.path).trials("edge_market.forward_return")) == 1
    ledger = PromotionLedger(home.promotion_ledger)
    ledger.verify()
    assert [entry.action for entry in ledger.entries("edge")] == ["promoted", "shown"]
    champion = current_champion(home.mlflow_uri, "edge")
    assert champion is not None

    # An object that was damaged in the bucket is made again, everything else is reused.
    event = latest_event(instance, dg.AssetKey(["edge", "labels"]), None)
    assert event is not None
    labels = home.store.path(str(event.metadata["quant/object"].value))
    whole = labels.read_bytes()
    labels.write_bytes(whole[:-7])
    assert run() == "promoted"
    assert labels.read_bytes() == whole
    assert len(TrialLedger(home.path).trials("edge_market.forward_return")) == 1
    reused = {
        node.name: latest_event(instance, dg.AssetKey(list(node.key)), None).metadata["reused"].value  # type: ignore[union-attr]
        for node in lineage.of("edge")
        if node.partitions is None
    }
    assert {name for name, was in reused.items() if not was} <= {"labels", "promotion", "champion"}
