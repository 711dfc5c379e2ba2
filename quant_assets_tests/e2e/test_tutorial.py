"""The tutorial, typed to the letter: each of its blocks in one shell, in a clean folder, without the checkout.

Installing every library anew takes 1.4 GB and a network. So ``PIP_NO_DEPS`` and ``PIP_NO_INDEX`` keep pip to the
wheel itself, and the new environment is lent the libraries of this one.
"""

import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from quant_assets.market.calendar import sessions
from quant_assets_tests.wheel import CHECKOUT, LIBRARIES, built_wheel, outside

TUTORIAL = CHECKOUT / "infra" / "docs" / "tutorial.md"
LEND = (
    f"echo {LIBRARIES} > .venv/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages/lent.pth"
)


def blocks() -> list[str]:
    """What the tutorial asks to type, in order."""
    return re.findall(r"^```sh\n(.*?)^```", TUTORIAL.read_text(encoding="utf-8"), flags=re.M | re.S)


def write_prices(file: Path, names: int = 12, n_sessions: int = 1_100) -> None:
    """Seeded random walks of New York: whatever is found in them is chance."""
    days = sessions("XNYS", date(2018, 1, 2), date(2024, 12, 31)).head(n_sessions)
    generator = np.random.default_rng(20261128)
    moves = generator.normal(0.0, 0.015, size=(len(days), names))
    close = 50.0 * np.exp(np.cumsum(moves, axis=0))
    opened = close * np.exp(-moves * generator.uniform(0.3, 0.7, size=moves.shape))
    spread = np.exp(np.abs(generator.normal(0.0, 0.004, size=moves.shape)))
    volume = generator.lognormal(14.0, 0.4, size=moves.shape).astype(int)
    tables = [
        pl.DataFrame(
            {
                "symbol": f"N{name:02d}",
                "session": days,
                "open": opened[:, name].round(4),
                "high": (np.maximum(opened, close) * spread)[:, name].round(4),
                "low": (np.minimum(opened, close) / spread)[:, name].round(4),
                "close": close[:, name].round(4),
                "volume": volume[:, name],
            }
        )
        for name in range(names)
    ]
    pl.concat(tables).write_csv(file)


@dataclass
class Typed:
    """What came of each block: its exit status, and what it said."""

    statuses: list[int]
    said: list[str]


class Reader:
    """Somebody who follows the tutorial: a folder with prices and the wheel, and a shell."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        (folder / "home").mkdir(parents=True)
        self.place = folder / "place"
        (self.place / "dist").mkdir(parents=True)
        built_wheel(self.place / "dist")
        write_prices(self.place / "prices.csv")

    @property
    def environment(self) -> dict[str, str]:
        """Theirs, with what stands in for 1.4 GB of libraries."""
        here = str(Path(sys.executable).parent)
        return {
            **outside(self.folder / "home"),
            "PATH": f"{here}:{os.environ['PATH']}",
            "PIP_NO_DEPS": "1",
            "PIP_NO_INDEX": "1",
            "PORT": str(self.port),
        }

    def type(self, chosen: list[str]) -> Typed:
        """Type blocks into one shell, each after the one before whatever came of it."""
        lines = [f'{block}echo "@@ $?"\n{LEND if "venv" in block else ""}\n' for block in chosen]
        done = subprocess.run(
            ["bash"], input="".join(lines), cwd=self.place, env=self.environment, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        parts = re.split(r"^@@ (\d+)\n", done.stdout, flags=re.M)
        return Typed([int(status) for status in parts[1::2]], parts[0:-1:2])

    def looked_at(self, block: str) -> dict[str, object]:
        """Open the UI as the block says, ask it for the strategy's decision, and end it with Ctrl-C."""
        shell = f". .venv/bin/activate && cd my_desk && exec {block}"
        served = subprocess.Popen(
            ["bash", "-c", shell], cwd=self.place, env=self.environment, start_new_session=True
        )
        try:
            return self._asked(served)
        finally:
            os.killpg(served.pid, signal.SIGINT)
            served.wait(timeout=60)

    def _asked(self, served: subprocess.Popen[bytes]) -> dict[str, object]:
        query = (
            '{assetNodeOrError(assetKey: {path: ["own_parts", "promotion"]}) {__typename ... on AssetNode '
            "{assetChecksOrError {__typename ... on AssetChecks {checks {name}}}}}}"
        )
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql",
            data=json.dumps({"query": query}).encode(),
            headers={"Content-Type": "application/json"},
        )
        for _ in range(240):
            assert served.poll() is None, "the UI ended by itself"
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    node: dict[str, object] = json.load(answer)["data"]["assetNodeOrError"]
            except OSError:
                time.sleep(0.5)
                continue
            if node["__typename"] == "AssetNode":
                return node
            time.sleep(0.5)
        raise AssertionError("the UI shows no decision of the strategy")


def processor_seconds() -> float:
    """Processor time of every process that was started and has ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_the_blocks_of_the_tutorial_are_those_that_are_typed_here() -> None:
    assert [block.splitlines()[-1] for block in blocks()] == [
        "pip install dist/quant_assets-*.whl",
        "cd my_desk",
        "make test",
        "make check",
        "make ui",
    ]
    assert "quant-assets init my_desk --from prices.csv\n" in blocks()[1]


def test_a_reader_installs_the_wheel_and_gets_a_project_of_the_file(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    where = "pwd\npython -c 'import quant_assets; print(quant_assets.__file__)'\n"
    typed = reader.type([*blocks()[:2], where])
    assert typed.statuses == [0, 0, 0], typed.said
    assert typed.said[1].startswith("quant-assets 0.1.0\n")
    assert "12 names, 1100 sessions" in typed.said[1]
    folder, package = typed.said[2].splitlines()
    assert folder == str(reader.place / "my_desk")
    assert package.startswith(str(reader.place / ".venv"))


@pytest.mark.drill
def test_a_reader_s_own_strategy_is_judged_and_shown_in_a_quarter_of_an_hour(tmp_path: Path) -> None:
    reader, before = Reader(tmp_path), processor_seconds()
    typed = reader.type(blocks()[:4])
    assert typed.statuses[:3] == [0, 0, 0], typed.said
    judged = typed.said[3]
    assert "own_parts: refused" in judged or "own_parts: promoted" in judged, judged
    assert "desk_max_turnover" in judged
    # A closed gate ends make with the 1 of `check`; 2 and 3 are what broke.
    assert typed.statuses[3] == 0 or (typed.statuses[3] == 2 and "Error 1" in judged), judged
    assert (reader.place / "my_desk" / "checks.xml").is_file()
    node = reader.looked_at(blocks()[4])
    assert node["assetChecksOrError"]
    # On a machine that does nothing else this is what passes, and a person reads meanwhile.
    assert processor_seconds() - before < 5 * 60
    shutil.rmtree(reader.folder)
