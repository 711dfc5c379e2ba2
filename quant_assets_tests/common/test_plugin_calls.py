"""A desk's function is held against its call before anything is computed for it, and without running its module."""

from pathlib import Path
from typing import Any

import pytest

from quant_assets.common.errors import ConfigurationError
from quant_assets.common.plugin_calls import require_call
from quant_assets.common.plugins import Plugin

MODULE = """
import functools
raise RuntimeError("this module was run")


def scheme(scores, known, *, floor: float = 0.1, names: int = 3, side: "str | None" = None, any_of=None):
    ...


def takes_all(*args, **options): ...


def twice(a): ...


twice = functools.partial(scheme, 1)


@functools.cache
def decorated(): ...


class Network:
    def __init__(self, width): ...


bound = functools.partial(scheme)
"""


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "calls_of_a_desk.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return lambda name, **options: Plugin(use=f"calls_of_a_desk:{name}", options=options)


CALL = ("scores", "known")


def test_a_call_that_binds_is_let_through(named: Any) -> None:
    require_call(named("scheme"), CALL)
    require_call(named("scheme", floor=1, names=4.0, side=None, any_of=[1]), CALL)
    require_call(named("takes_all", whatever="x"), CALL)


@pytest.mark.parametrize("name", ["decorated", "twice", "Network", "bound"])
def test_what_is_no_plain_function_is_left_to_the_call_itself(named: Any, name: str) -> None:
    require_call(named(name, odd=1), CALL)


def test_a_misspelt_option_is_answered_with_the_one_that_was_meant(named: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"f\(scores, known, flor=\.\.\.\).*did you mean 'floor'\?"):
        require_call(named("scheme", flor=0.1), CALL)


@pytest.mark.parametrize("call", [(), ("rows",), ("symbols", "start", "end")])
def test_a_function_of_another_kind_is_refused_with_its_signature(named: Any, call: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError, match=r"def scheme\(scores, known, \*"):
        require_call(named("scheme"), call)


def test_what_is_called_by_name_counts_too(named: Any) -> None:
    with pytest.raises(ConfigurationError, match="unexpected keyword argument 'horizon_sessions'"):
        require_call(named("scheme"), CALL, {"horizon_sessions": 5})


@pytest.mark.parametrize(
    ("option", "value"),
    [("floor", "high"), ("floor", True), ("floor", None), ("names", 3.5), ("names", "3"), ("side", 1)],
)
def test_an_option_of_another_type_than_the_annotated_one_is_refused(
    named: Any, option: str, value: Any
) -> None:
    with pytest.raises(ConfigurationError, match=f"option '{option}': expected (float|int|str)"):
        require_call(named("scheme", **{option: value}), CALL)
