"""What a failed run says: the platform's own error, which names what to do, and not the library's below it."""

from collections.abc import Callable
from types import SimpleNamespace

import dagster as dg
import pytest

from quant_assets.common.errors import StorageError
from quant_assets.common.home import Home
from quant_assets.defs import running
from quant_assets.defs.assets import GateClosed
from quant_assets.defs.running import failures
from quant_assets.lineage.settled import Settled


def _lost() -> None:
    try:
        raise ConnectionError("reset by peer")
    except ConnectionError as error:
        raise StorageError(
            "storage s3://desk",
            expected="a store that answers",
            found="no connection",
            action="check the network",
        ) from error


def _broken() -> None:
    try:
        raise KeyError("close")
    except KeyError as error:
        raise RuntimeError("a library's words") from error


CLEAR = (
    "[QA703] storage s3://desk: expected a store that answers; found no connection. To do: check the network."
)


@pytest.mark.parametrize(
    ("body", "said"), [(_lost, CLEAR), (_broken, "KeyError: 'close'")], ids=["ours", "a library's"]
)
def test_a_failed_step_is_told_by_our_own_error_and_otherwise_by_the_innermost_cause(
    body: Callable[[], None], said: str
) -> None:
    @dg.asset
    def bars() -> None:
        body()

    result = dg.materialize([bars], raise_on_error=False)
    assert failures(result.all_events)[0] == []
    [broken] = failures(result.all_events)[1]
    assert broken.startswith("bars: ")
    assert broken.endswith(said)


def test_an_error_of_the_storage_is_told_from_below_dagsters_own() -> None:
    class Unreachable(dg.IOManager):
        def handle_output(self, context: dg.OutputContext, obj: object) -> None:
            _lost()

        def load_input(self, context: dg.InputContext) -> None:
            _lost()

    @dg.asset
    def bars() -> int:
        return 1

    result = dg.materialize([bars], resources={"io_manager": Unreachable()}, raise_on_error=False)
    assert failures(result.all_events)[1][0].endswith(CLEAR)


@pytest.mark.parametrize("before", [False, True], ids=["first run", "with an older candidate"])
def test_a_closed_gate_before_the_decision_is_a_refusal_that_says_so(
    before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A learner for research only has no graph: there is nothing to decide on, and nothing is broken."""

    @dg.asset(key=["own", "graph"])
    def graph() -> None:
        raise GateClosed("for research only", ("no graph",), {})

    @dg.asset(key=["own", "promotion"], deps=[graph])
    def promotion() -> None:
        if not before:
            raise RuntimeError("asked without a candidate")
        raise GateClosed("made from another model version", ("foreign",), {})

    lineage = SimpleNamespace(
        decision=lambda _: SimpleNamespace(key=("own", "promotion"), parents=(("own", "graph"),)),
        of=lambda _: (),
    )
    monkeypatch.setattr(running, "_seen", lambda *_: ((), None, ()))
    definitions = dg.Definitions([graph, promotion], jobs=[dg.define_asset_job("own")])
    with dg.DagsterInstance.ephemeral() as instance:
        if before:
            instance.report_runless_asset_event(dg.AssetMaterialization(["own", "graph"]))
        outcome = running._run_strategy(
            definitions, lineage, "own", instance, Home("memory://none"), Settled("graph was never made")  # type: ignore[arg-type]
        )  # fmt: skip
        runs = instance.get_runs()
    assert outcome.decision == "refused"
    assert (len(runs), len(outcome.reasons)) == ((2, 0) if before else (1, 1))
    assert before or "for research only" in outcome.reasons[0]
