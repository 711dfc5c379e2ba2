"""What a failed run says: the platform's own error, which names what to do, and not the library's below it."""

from collections.abc import Callable

import dagster as dg
import pytest

from quant_assets.common.errors import StorageError
from quant_assets.defs.running import failures


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
