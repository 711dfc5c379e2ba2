"""A slice of the parser corpus (`quant_assets_tests.benchmarks.parser_corpus` has the thousands), in this process."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from quant_assets_tests.benchmarks.parser_corpus import LONGEST_MESSAGE, examine, outcome_of
from quant_assets_tests.fuzz.mutations import mutated
from quant_assets_tests.fuzz.parsers import (
    Archives,
    Bundles,
    ConfigurationFiles,
    CsvFiles,
    Graphs,
    Ledgers,
    ParquetFiles,
    Parser,
    SilentAcceptanceError,
    TrialLedgers,
)

INPUTS = {
    CsvFiles: 120,
    ParquetFiles: 80,
    ConfigurationFiles: 60,
    Graphs: 60,
    Bundles: 60,
    Archives: 40,
    Ledgers: 60,
    TrialLedgers: 60,
}


@pytest.mark.parametrize("make", list(INPUTS), ids=lambda make: make.name)
def test_mutated_inputs_are_refused_or_verified(make: Callable[[Path], Parser], tmp_path: Path) -> None:
    parser = make(tmp_path)
    for number in range(INPUTS[make]):  # type: ignore[index]
        given = parser.draw(Random(f"7/{parser.name}/{number}"))
        outcome, detail = outcome_of(parser, given)
        assert outcome in ("refused", "accepted"), f"{outcome} of input {number}: {detail}"


def test_the_same_seed_gives_the_same_inputs() -> None:
    seeds = [b"symbol,session\nA,2024-01-02\n", b"x" * 100]
    assert [mutated(seeds, Random(n)) for n in range(50)] == [mutated(seeds, Random(n)) for n in range(50)]
    assert len({mutated(seeds, Random(n)) for n in range(50)}) > 40


class Broken:
    """A parser with every fault that the corpus looks for."""

    name = "broken"

    def __init__(self, _: Path) -> None:
        self._faults = ["traceback", "silent acceptance", "died", "accepted"]

    def draw(self, rng: Random) -> Any:
        return rng.choice(self._faults)

    def read(self, given: Any) -> str:
        match given:
            case "traceback":
                raise RecursionError("too deep")
            case "silent acceptance":
                raise SilentAcceptanceError("not what it is")
            case "died":
                os.kill(os.getpid(), signal.SIGKILL)
        return "accepted"


def test_the_corpus_sees_each_kind_of_fault_and_goes_on_behind_an_input_that_kills() -> None:
    found = examine(Broken, "broken", seed=1, first=0, last=40)
    assert sum(found.counts.values()) == 40
    assert set(found.counts) == {"traceback", "silent acceptance", "died", "accepted"}
    assert not found.clean
    assert len(max(found.examples, key=len)) < LONGEST_MESSAGE
