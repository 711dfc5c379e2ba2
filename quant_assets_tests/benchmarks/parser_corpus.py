"""What every parser does with thousands of mutated inputs: refused, accepted and verified, or broken. From the root:

    python -m quant_assets_tests.benchmarks.parser_corpus --per-parser 2000

Each parser has a process of its own, so that one that dies is seen, counted and started again behind the input that
killed it. What an accepted input is held against is in the docstrings of `quant_assets_tests.fuzz.parsers`. An input
is a function of the seed, the parser and its number: ``--only CSV --first 17 --per-parser 1`` repeats one.
"""

import argparse
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

import structlog

from quant_assets.common.errors import QuantAssetsError
from quant_assets_tests.fuzz.parsers import PARSERS, Parser, SilentAcceptanceError

# Of this process's own time: what other processes of the machine take is none of the parser's.
HANG_SECONDS = 10.0
WAIT_SECONDS = 60.0
LONGEST_MESSAGE = 3000


class HangError(BaseException):
    """An input took too long: no parser may catch this."""


@dataclass
class Findings:
    """What became of the inputs of one parser."""

    name: str
    counts: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, int] = (0.0, -1)
    peak_megabytes: float = 0.0
    examples: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether each input was refused, or accepted and verified."""
        return not set(self.counts) - {"refused", "accepted"}


def outcome_of(parser: Parser, given: Any) -> tuple[str, str]:
    """What became of one input, and where something is wrong, what."""

    def rang(_: int, frame: FrameType | None) -> None:
        raise HangError("".join(traceback.format_stack(frame, limit=6)))

    previous = signal.signal(signal.SIGALRM, rang)
    signal.setitimer(signal.ITIMER_REAL, WAIT_SECONDS)
    try:
        return parser.read(given), ""
    except QuantAssetsError as error:
        text = str(error)
        return ("refused", "") if len(text) <= LONGEST_MESSAGE else ("long message", text[:300])
    except SilentAcceptanceError as error:
        return "silent acceptance", str(error)[:600]
    except HangError as error:
        return "hang", str(error)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 (a panic of a Rust library is no Exception)
        return "traceback", "".join(traceback.format_exception(error)[-4:])[:1200]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def run_inputs(
    make: Callable[[Path], Parser], seed: int, first: int, last: int, say: Callable[..., None]
) -> None:
    """Feed a parser the inputs of some numbers, and say of each what became of it."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    with tempfile.TemporaryDirectory(prefix="corpus-") as folder:
        os.chdir(folder)
        parser = make(Path(folder))
        for number in range(first, last):
            given = parser.draw(Random(f"{seed}/{parser.name}/{number}"))
            say("started", number, "", 0.0)
            started = time.process_time()
            outcome, detail = outcome_of(parser, given)
            shown = f"{detail} | input {number}: {repr(given)[:300]}" if detail else ""
            say(outcome, number, shown, time.process_time() - started)


def _worker(make: Callable[[Path], Parser], seed: int, first: int, last: int, pipe: Any) -> None:
    # What native code prints of its own panics is counted, not shown.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    run_inputs(make, seed, first, last, lambda *said: pipe.send((*said, peak_megabytes())))
    pipe.send(("done", last, "", 0.0, peak_megabytes()))


def peak_megabytes() -> float:
    """Largest resident set of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def examine(make: Callable[[Path], Parser], name: str, seed: int, first: int, last: int) -> Findings:
    """Run a parser's inputs in a process of its own; one that dies is started again behind its last input."""
    found = Findings(name)
    while first < last:
        ours, theirs = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(
            target=_worker, args=(make, seed, first, last, theirs)
        )
        process.start()
        theirs.close()
        number, at_work = first, False
        try:
            while True:
                outcome, number, detail, seconds, peak = ours.recv()
                found.peak_megabytes = max(found.peak_megabytes, peak)
                if outcome == "done":
                    break
                at_work = outcome == "started"
                if not at_work:
                    found.counts["hang" if seconds > HANG_SECONDS else outcome] += 1
                    found.slowest = max(found.slowest, (seconds, number))
                    found.examples += [f"{outcome}: {detail}"] if detail else []
        except EOFError:
            process.join()
            if not at_work:
                raise RuntimeError(f"{name}: the worker ended before an input, {process.exitcode}") from None
            found.counts["died"] += 1
            found.examples.append(f"died with {process.exitcode} | input {number}")
        process.join()
        first = number + 1
    return found


def table(findings: list[Findings]) -> str:
    """The result in Markdown."""
    wrong = ("traceback", "hang", "died", "silent acceptance", "long message")
    heads = (
        "inputs",
        "refused",
        "accepted, verified",
        "tracebacks",
        "hangs",
        "died",
        "silent",
        "long messages",
    )
    lines = [
        f"| parser | {' | '.join(heads)} | slowest, CPU s | peak, MB |",
        "|---|" + "---:|" * (len(heads) + 2),
    ]
    for found in findings:
        counts = [found.counts[what] for what in ("refused", "accepted", *wrong)]
        cells = [
            sum(found.counts.values()),
            *counts,
            f"{found.slowest[0]:.2f} (input {found.slowest[1]})",
            f"{found.peak_megabytes:.0f}",
        ]
        lines.append(f"| {found.name} | " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main(write: Callable[[str], object] = sys.stdout.write) -> None:
    """Examine the parsers, and print a table and the first examples of what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--per-parser", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", action="append", help="names of parsers")
    asked = parser.parse_args()
    findings = []
    for make in PARSERS:
        name = str(getattr(make, "name", make))
        if not asked.only or name in asked.only:
            findings.append(examine(make, name, asked.seed, asked.first, asked.first + asked.per_parser))
            write(f"{name}: {dict(findings[-1].counts)}\n")
            for example in findings[-1].examples[:5]:
                write(f"  {example}\n")
            sys.stdout.flush()
    write(f"\n{table(findings)}\n")
    sys.exit(0 if all(found.clean for found in findings) else 1)


if __name__ == "__main__":
    main()
