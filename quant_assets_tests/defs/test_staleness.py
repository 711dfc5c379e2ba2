"""Which stale assets wait, on the smallest lineage in which one must: a -> b -> c -> d, and a -> d."""

from typing import Any

import dagster as dg
import pytest

from quant_assets.defs.sensors import stale_assets
from quant_assets.lineage.causes import waiting_keys
from quant_assets.lineage.graph import Key


def step(name: str, *upstream: str) -> dg.AssetsDefinition:
    @dg.asset(name=name, deps=list(upstream), code_version="1")
    def body() -> dg.MaterializeResult[Any]:
        return dg.MaterializeResult(data_version=dg.DataVersion("same"))

    return body


DEFINITIONS = dg.Definitions(assets=[step("a"), step("b", "a"), step("c", "b"), step("d", "a", "c")])
GRAPH = DEFINITIONS.resolve_asset_graph()


def keys(names: str) -> set[dg.AssetKey]:
    return {dg.AssetKey(name) for name in names}


@pytest.mark.parametrize(
    ("stale", "mine", "waiting"),
    [
        ("", "abcd", ""),
        ("bd", "abcd", "d"),  # c may still change, and d reads it
        ("bcd", "abcd", ""),  # one run makes them in order
        ("d", "abcd", ""),
        ("ad", "abcd", "d"),  # b and c may change
        ("bcd", "cd", "cd"),  # another run makes b
    ],
)
def test_a_stale_asset_waits_while_something_between_it_and_an_earlier_stale_one_may_change(
    stale: str, mine: str, waiting: str
) -> None:
    def named(names: str) -> set[Key]:
        return {("x", name) for name in names}

    parents = {("x", "a"): named(""), ("x", "b"): named("a"), ("x", "c"): named("b"), ("x", "d"): named("ac")}
    assert waiting_keys(parents, named(stale), named(mine)) == named(waiting)


def test_staleness_is_that_of_the_event_log_and_the_same_version_makes_nothing_stale() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        everything = keys("abcd")
        assert stale_assets(instance, GRAPH, everything) == everything  # missing
        job = DEFINITIONS.resolve_implicit_global_asset_job_def()
        job.execute_in_process(instance=instance)
        assert stale_assets(instance, GRAPH, everything) == set()
        job.execute_in_process(instance=instance, asset_selection=[dg.AssetKey("a")])
        assert stale_assets(instance, GRAPH, everything) == set()
        version = {"dagster/data_version": "other"}
        instance.report_runless_asset_event(dg.AssetMaterialization(dg.AssetKey("a"), tags=version))
        assert stale_assets(instance, GRAPH, everything) == keys("bd")
