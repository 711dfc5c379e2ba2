"""Every parser of the platform behind one face: what it is fed, and what an accepted input is held against.

A parser refuses an input with a `QuantAssetsError` of one short message; anything else that it raises is a traceback.
An input that it accepts is held against an *oracle*, because accepting the wrong content in silence is the worst that
a parser can do. The oracle of each is in the docstring of its class.
"""

import csv
import gzip
import io
import json
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from random import Random
from typing import Any, Protocol

import numpy as np
import polars as pl
import yaml

from quant_assets.common.errors import QuantAssetsError
from quant_assets.common.settings import CsvSource, ParquetSource
from quant_assets_tests.fuzz.mutations import mutated, mutated_arguments

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


class SilentAcceptanceError(AssertionError):
    """An input was accepted as something that it is not."""


class Parser(Protocol):
    """One parser with its seeds."""

    name: str

    def draw(self, rng: Random) -> Any:
        """An input."""

    def read(self, given: Any) -> str:
        """``accepted`` when the input was read and its oracle agrees, ``refused`` where a verdict says no.

        Raises
        ------
        QuantAssetsError
            Refused.
        SilentAcceptanceError
            Accepted, and the oracle does not agree.
        """


def agree(found: object, expected: object, what: str) -> None:
    """What an oracle says."""
    if found != expected:
        raise SilentAcceptanceError(f"{what}: {str(found)[:200]} is not {str(expected)[:200]}")


# ------------------------------------------------------------------------------------------------------ bars


def small_bars() -> pl.DataFrame:
    """Three symbols of a dozen sessions."""
    rng = np.random.default_rng(3)
    days = pl.date_range(date(2024, 1, 2), date(2024, 1, 17), "1d", eager=True)
    days = days.filter(days.dt.weekday() < 6)
    frames = []
    for symbol in ("AAPL", "BRK.B", "TRUE"):
        close = (100 * np.exp(np.cumsum(rng.normal(0, 0.01, len(days))))).round(2)
        frames.append(
            pl.DataFrame(
                {
                    "symbol": [symbol] * len(days),
                    "session": days,
                    "open": close,
                    "high": (close * 1.01).round(2),
                    "low": (close * 0.99).round(2),
                    "close": close,
                    "volume": rng.integers(1000, 9000, len(days)).astype(float),
                    "adj_close": close,
                }
            )
        )
    return pl.concat(frames)


class CsvFiles:
    """CSV: the rows are those that Python's strict csv reader, `date.fromisoformat` and `float` read.

    Columns are taken by the mapping that the reading reports. A row that the peer cannot read was accepted silently.
    """

    name = "CSV"

    def __init__(self, folder: Path) -> None:
        from quant_assets.market.sources.bar_files import read_bar_file

        self._read, self._file = read_bar_file, folder / "bars.csv"
        text = small_bars().write_csv().encode()
        quoted = small_bars().write_csv(quote_style="always").encode()
        self._seeds = [text, quoted, text.replace(b"\n", b"\r\n"), gzip.compress(text, mtime=0)]

    def draw(self, rng: Random) -> bytes:
        if rng.random() < 0.05:  # damage inside of a whole gzip file
            return gzip.compress(mutated(self._seeds[:3], rng), mtime=0)
        return mutated(self._seeds, rng)

    def read(self, given: bytes) -> str:
        self._file.write_bytes(given)
        found = self._read(self._file, CsvSource(kind="csv", path=str(self._file)))
        plain = gzip.decompress(given) if given[:2] == b"\x1f\x8b" else given
        text = plain.decode("utf-8-sig").rstrip("\r\n")
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        header = [name.strip() for name in rows[0]]
        places = {ours: header.index(theirs) for ours, theirs in found.column_mapping.items()}
        expected = sorted(
            (_bar({ours: row[place].strip() for ours, place in places.items()}) for row in rows[1:]),
            key=lambda bar: (bar[0], bar[1]),
        )
        agree(found.bars.rows(), expected, "bars")
        return "accepted"


def _bar(cells: dict[str, str]) -> tuple[object, ...]:
    session = cells["session"].split("T")[0].split(" ")[0].replace("/", "-")
    numbers = [float(cells[name]) for name in ("open", "high", "low", "close", "volume")]
    adjusted = float(cells["adj_close"]) if cells.get("adj_close") else None
    if not all(map(math.isfinite, numbers)) or min(numbers[:4]) <= 0 or numbers[1] < numbers[2]:
        raise SilentAcceptanceError(f"no bar: {cells}")
    return (cells.get("symbol", "bars"), date.fromisoformat(session), *numbers, adjusted)


class ParquetFiles:
    """Parquet: the bars are those of the undamaged file, or those that polars, another reader, sees in the bytes."""

    name = "Parquet"

    def __init__(self, folder: Path) -> None:
        from quant_assets.market.sources.bar_files import read_bar_file

        self._read, self._file = read_bar_file, folder / "bars.parquet"
        self._seeds = []
        for compression in ("uncompressed", "snappy", "zstd"):
            buffer = io.BytesIO()
            small_bars().write_parquet(buffer, compression=compression)
            self._seeds.append(buffer.getvalue())
        buffer = io.BytesIO()
        import pyarrow.parquet

        pyarrow.parquet.write_table(small_bars().to_arrow(), buffer, version="1.0", data_page_version="2.0")
        self._seeds.append(buffer.getvalue())
        self._whole = small_bars().sort("symbol", "session").rows()

    def draw(self, rng: Random) -> bytes:
        return mutated(self._seeds, rng)

    def read(self, given: bytes) -> str:
        self._file.write_bytes(given)
        found = self._read(self._file, ParquetSource(kind="parquet", path=str(self._file)))
        if found.bars.rows() == self._whole:
            return "accepted"
        wanted = [name for name in found.bars.columns if name in found.column_mapping]
        try:
            peer = pl.read_parquet(given).select(
                pl.col(found.column_mapping[name]).alias(name) for name in wanted
            )
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise SilentAcceptanceError(f"the peer cannot read it: {error}") from error
        same = peer.cast({name: found.bars.schema[name] for name in wanted}).sort("symbol", "session")
        agree(found.bars.select(wanted).rows(), same.rows(), "bars")
        return "accepted"


# --------------------------------------------------------------------------------------------- configuration


class ConfigurationFiles:
    """YAML: what is read is what libyaml, the other implementation, reads; and Dagster loads what it describes."""

    name = "YAML"

    def __init__(self, folder: Path) -> None:
        from quant_assets.common.configuration import read_yaml
        from quant_assets.lineage.configured import load_settings, require_whole

        self._load = lambda configs, home: require_whole(load_settings(configs, home))
        self._yaml = read_yaml
        self._configs = folder / "configs"
        shutil.copytree(CONFIGS, self._configs)
        for name in ("pure_noise", "us_tech_daily"):
            (self._configs / "strategies" / f"{name}.yaml").unlink()
        self._seeds = {str(f.relative_to(CONFIGS)): f.read_bytes() for f in sorted(CONFIGS.rglob("*.yaml"))}
        self._seeds["strategies/us_tech_daily.yaml"] += (
            b"feature_packs: [technical_v1]\nseed: 7\nholdout_sessions: 70\n"
            b"label: {horizon_sessions: 5, kind: return}\n"
            b"models:\n  lightgbm: {n_estimators: 80, learning_rate: 0.05}\n  catboost: null\n"
            b"validation: {n_groups: 6, n_test_groups: 2}\ncosts: {half_spread_bps: 1.0}\ngates: {sharpe_min: 1.5}\n"
        )
        self._loadable: set[str] = set()
        self.read(("gates.yaml", self._seeds["gates.yaml"]))  # the first build imports everything

    def draw(self, rng: Random) -> tuple[str, bytes]:
        name = rng.choice(sorted(self._seeds))
        return name, mutated([self._seeds[name]], rng)

    def read(self, given: tuple[str, bytes]) -> str:
        name, data = given
        file = self._configs / name
        kept = file.read_bytes() if file.exists() else None
        try:
            file.write_bytes(data)
            settings = self._load(self._configs, self._configs / "nowhere")
            said = self._yaml(file, environment=False)
        finally:
            file.unlink(missing_ok=True) if kept is None else file.write_bytes(kept)
        agree(repr(said), repr(yaml.load(data, Loader=yaml.CSafeLoader) or {}), name)
        digest = settings.model_dump_json()
        if digest not in self._loadable:
            from quant_assets.definitions import require_loadable

            require_loadable(settings)
            self._loadable.add(digest)
        return "accepted"


# ---------------------------------------------------------------------------------------- graphs and bundles


def small_candidate() -> tuple[Any, bytes, Any]:
    """An ensemble, its graph, and the rows that it was fitted to."""
    from quant_assets.artifacts.onnx.export import export_onnx
    from quant_assets.models.ensemble import fit_ensemble
    from quant_assets.models.training_arrays import training_arrays
    from quant_assets_tests.models.training_frames import FEATURES, SMALL_MODELS, training_frame

    frame = training_frame()
    ensemble = fit_ensemble(frame, FEATURES, SMALL_MODELS, seed=7, embargo_sessions=2, recipe="r1")
    graph = export_onnx(ensemble, subject="5" * 64, metadata={"strategy": "small"})
    return ensemble, graph, training_arrays(frame, FEATURES).features


class Graphs:
    """ONNX: what opens either scores real rows as its ensemble does (a change that changes nothing), or not.

    Then it is no parser's to say: the parity gate refuses it, and so does the digest in the bundle. What opens has to
    score without an error, and NaN only where a feature is missing.
    """

    name = "ONNX"

    def __init__(self, folder: Path) -> None:
        from quant_assets.artifacts.onnx.scoring import open_session, score

        self._open, self._score = open_session, score
        ensemble, graph, rows = small_candidate()
        self._rows = np.ascontiguousarray(rows[:256], dtype=np.float32)
        self._expected = np.asarray(ensemble.predict(self._rows), dtype=np.float64)
        self._seeds = [graph]

    def draw(self, rng: Random) -> bytes:
        return mutated(self._seeds, rng)

    def read(self, given: bytes) -> str:
        session = self._open(given)
        try:
            scores = self._score(session, self._rows)
        except QuantAssetsError:
            return "refused"
        agree((scores.dtype, scores.shape), (np.dtype(np.float32), (len(self._rows),)), "scores")
        spread = self._expected.std()
        return "accepted" if np.nanmax(np.abs(scores - self._expected)) < 1e-3 * spread else "refused"


class Bundles:
    """Bundle: only the signed archive itself, byte for byte, is a bundle; a signature may be written otherwise."""

    name = "bundle"

    def __init__(self, folder: Path) -> None:
        from quant_assets.artifacts.bundle.bundle import build_bundle, verify_bundle
        from quant_assets.artifacts.bundle.signing import TrustedKeys, sign_bundle, signing_key

        ensemble, graph, _ = small_candidate()
        self._archive = build_bundle(
            strategy="small", subject="5" * 64, ensemble=ensemble.to_json(), onnx=graph, int8=None,
            upstream={"bars": "b" * 64}, sbom=b'{"bomFormat":"CycloneDX","components":[]}',
        )  # fmt: skip
        key = signing_key(folder)
        self._signature = sign_bundle(self._archive, key)
        self._trusted = TrustedKeys.of([key.public_pem])
        self._verify = verify_bundle

    def draw(self, rng: Random) -> tuple[bytes, bytes]:
        if rng.random() < 0.3:
            return self._archive, mutated([self._signature], rng)
        return mutated([self._archive], rng), self._signature

    def read(self, given: tuple[bytes, bytes]) -> str:
        self._verify(*given, self._trusted)
        agree(given[0] == self._archive, True, "the archive")
        return "accepted"


class Archives:
    """Bundle before its signature: what passes the inspection is an archive that its own manifest describes.

    Who can write an archive can write its digests, so an attacker's mutations are made *inside* and sealed again.
    What is accepted then has the digests of its files, is the canonical archive of them, and its graph is safe.
    """

    name = "bundle, unsigned"

    def __init__(self, folder: Path) -> None:
        from quant_assets.artifacts.bundle import archive
        from quant_assets.artifacts.bundle.bundle import inspect_bundle

        self._inspect, self._format = inspect_bundle, archive
        whole = Bundles(folder)._archive
        self._files = archive.unpack(whole)
        self._manifest = archive.checked_manifest(self._files)

    def draw(self, rng: Random) -> bytes:
        from dataclasses import replace

        from quant_assets.common.hashing import bytes_digest

        files = dict(self._files)
        name = rng.choice(sorted(files))
        files[name] = mutated([files[name]], rng)
        if name != self._format.MANIFEST:
            digests = {n: bytes_digest(d) for n, d in files.items() if n != self._format.MANIFEST}
            files[self._format.MANIFEST] = self._format.sealed(replace(self._manifest, files=digests))
        return self._format.pack(files)

    def read(self, given: bytes) -> str:
        found = self._inspect(given)
        agree(self._format.pack(found.files) == given, True, "the archive of its files")
        found.ensemble()
        return "accepted"


# --------------------------------------------------------------------------------------------------- ledgers


class Ledgers:
    """Ledger: the entries are those that were appended, all of them, in order; nothing less is accepted."""

    name = "ledger"

    def __init__(self, folder: Path) -> None:
        from quant_assets.ledgers.chain import Chain, RecordFiles, RecordType
        from quant_assets.ledgers.promotions import PromotionLedger

        self._folder, self._ledger = folder / "ledger", PromotionLedger
        self._folder.mkdir()
        ledger = PromotionLedger(self._folder / "ledger.jsonl")
        for number in range(4):
            ledger.append(
                "promoted", strategy="planted_edge", subject=f"subject-{number}", model_version=str(number),
                reasons=("all gates open",), evidence={"validation": "a" * 64}, actor="asset:promotion",
                at=datetime(2026, 3, 2, tzinfo=UTC), run_id="run-1",
            )  # fmt: skip
        self._entries = [asdict(entry) for entry in ledger.entries()]
        self._files = {
            f.name: f.read_bytes() for f in sorted(self._folder.iterdir()) if not f.name.endswith(".lock")
        }
        kind = RecordType("number", _encoded, _decoded, lambda r: r[0], lambda r: r[1], _digest)
        self._chain = lambda place: Chain(kind, RecordFiles(place, keeps_head=True))
        numbered = folder / "numbered"
        numbered.mkdir()
        chain, records = self._chain(numbered), list[Any]()
        for number in range(4):
            chain.extend(records, (number, chain.head_of(records), f"text {number}"))
            records = chain.records()
        self._records = records
        self._numbered = {
            str(f.relative_to(numbered)): f.read_bytes() for f in sorted(numbered.rglob("*.json"))
        }

    def draw(self, rng: Random) -> tuple[str, dict[str, bytes]]:
        kind = rng.choice(("lines", "files"))
        files = dict(self._files if kind == "lines" else self._numbered)
        name = rng.choice(sorted(files))
        match rng.randrange(6):
            case 0 if kind == "files":
                del files[name]
            case 1 if kind == "files":
                files[name] = files[rng.choice(sorted(files))]
            case _:
                files[name] = mutated([files[name]], rng)
        return kind, files

    def read(self, given: tuple[str, dict[str, bytes]]) -> str:
        kind, files = given
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            for file, data in files.items():
                (Path(name) / file).parent.mkdir(exist_ok=True)
                (Path(name) / file).write_bytes(data)
            if kind == "lines":
                found = [asdict(e) for e in self._ledger(Path(name) / "ledger.jsonl").entries()]
                agree(found, self._entries, "entries")
            else:
                agree(self._chain(Path(name)).records(), self._records, "records")
        return "accepted"


class TrialLedgers:
    """Trial ledger: every trial and its returns are what was appended; all else is refused.

    Who recorded a trial when is no part of it (`Trial.identity`): that may read as it likes.
    """

    name = "trial ledger"

    def __init__(self, folder: Path) -> None:
        import numpy as np

        from quant_assets.ledgers.trials import TrialLedger, trial_of

        self._open, self._folder = TrialLedger, folder / "trials"
        self._folder.mkdir()
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            ledger, rng = TrialLedger(name), np.random.default_rng(5)
            days = np.arange("2020-01-01", "2020-03-01", dtype="datetime64[D]")
            for number in range(3):
                returns = rng.normal(0.0, 0.01, len(days))
                trial = trial_of(
                    "market.forward_return", f"{number:064x}", returns, days,
                    run_id="run-1", recorded_at="2026-03-02T00:00:00+00:00",
                )  # fmt: skip
                ledger.append(trial, returns, days)
            self._held = self._contents(name)
            files = (file for file in sorted(Path(name).rglob("*")) if file.is_file())
            self._files = {str(file.relative_to(name)): file.read_bytes() for file in files}

    def _contents(self, folder: str) -> tuple[list[dict[str, Any]], bytes]:
        ledger = self._open(folder)
        ledger.snapshot("market.forward_return")
        trials = ledger.records("market.forward_return")
        return [t.identity for t in trials], ledger.returns_matrix("market.forward_return").tobytes()

    def draw(self, rng: Random) -> dict[str, bytes]:
        files = dict(self._files)
        name = rng.choice(sorted(files))
        match rng.randrange(6):
            case 0:
                del files[name]
            case 1:
                files[name] = files[rng.choice(sorted(files))]
            case _:
                files[name] = mutated([files[name]], rng)
        return files

    def read(self, given: dict[str, bytes]) -> str:
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            for file, data in given.items():
                (Path(name) / file).parent.mkdir(parents=True, exist_ok=True)
                (Path(name) / file).write_bytes(data)
            agree(self._contents(name), self._held, "trials and returns")
        return "accepted"


def _encoded(record: tuple[int, str, str]) -> bytes:
    return json.dumps(list(record)).encode()


def _decoded(data: bytes) -> tuple[int, str, str]:
    number, previous, text = json.loads(data)
    if not isinstance(number, int) or not isinstance(previous, str) or not isinstance(text, str):
        raise TypeError("not a number and two texts")
    return number, previous, text


def _digest(record: tuple[int, str, str]) -> str:
    from quant_assets.common.hashing import bytes_digest

    return bytes_digest(_encoded(record))


# ---------------------------------------------------------------------------------------------- command lines

# Commands that end before they do any work; each names something that does not exist.
COMMANDS: Sequence[Sequence[str]] = (
    ("config", "show"),
    ("run", "--strategy", "no_such_thing"),
    ("run", "-s", "no_such_thing", "--universe-file", "/no/such/file.csv", "--like", "pure_noise"),
    ("check", "--strategy", "no_such_thing", "--json", "/no/such/folder/out.json"),
    ("validate", "--strategy", "no_such_thing", "--baseline", "/no/such/file.json"),
    (
        "model",
        "verify",
        "/no/such/bundle.qab",
        "--signature",
        "/no/such/bundle.sig",
        "--key",
        "/no/such/key.pub",
    ),
    ("model", "show", "no_such_thing", "--alias", "champion"),
    ("backtest", "/no/such/data.csv", "--top-k", "3", "--horizon", "5", "--column", "score=x", "--seed", "1"),
    (
        "features",
        "--bars",
        "/no/such/*.parquet",
        "--output",
        "/no/such/folder/out.parquet",
        "--pack",
        "technical_v1",
    ),
    ("replay", "--as-of", "2026-11-01", "--strategy", "no_such_thing", "--asset", "bars"),
    ("promotion", "show", "no_such_thing", "--json", "/no/such/folder/out.json"),
    ("trials", "show", "--universe", "no_such_thing"),
)
LAST_WORD = "--no-such-option-so-that-nothing-is-done"


class CommandLines:
    """Command line: exit code 0 only for what asks to be shown something (``config show``, ``--help``); else 1 or 2.

    A line that would start work ends with an option that does not exist. No output has a traceback in it.
    """

    name = "CLI"

    def __init__(self, folder: Path) -> None:
        from quant_assets.cli.main import main

        self._main: Callable[[], None] = main
        os.environ["QUANT_ASSETS_HOME"] = str(folder / "home")
        os.environ["QUANT_ASSETS_CONFIGS"] = str(CONFIGS)
        for command in COMMANDS:  # what they import takes seconds, once
            with suppress(QuantAssetsError):
                self.read(list(command))

    def draw(self, rng: Random) -> list[str]:
        # No process gets an argument with a NUL in it: execve(2) ends it there.
        words = [word.replace("\0", "") for word in mutated_arguments(COMMANDS, rng)]
        harmless = (
            any(w == "no_such_thing" for w in words)
            or "/no/such/" in " ".join(words)
            or words[:1] == ["config"]
        )
        return words if harmless and words[:1] != ["calibrate"] else [*words, LAST_WORD]

    def read(self, given: list[str]) -> str:
        shown, kept, code = io.StringIO(), sys.argv, 0
        try:
            sys.argv = ["quant-assets", *given]
            with redirect_stdout(shown), redirect_stderr(shown):
                self._main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        finally:
            sys.argv = kept
        agree("Traceback" in shown.getvalue(), False, "a traceback in the output")
        if code == 0:
            asks = (
                [word for word in given if word != "--"] == ["config", "show"]
                or "--help" in given
                or given[:1] == ["instance-path"]
            )
            agree(asks or given[:2] == ["config", "validate"], True, f"exit code 0 of {given}")
            return "accepted"
        agree(code in (1, 2), True, f"exit code {code}")
        return "refused"


PARSERS: Sequence[Callable[[Path], Parser]] = (
    CsvFiles, ParquetFiles, ConfigurationFiles, Graphs, Bundles, Archives, Ledgers, TrialLedgers, CommandLines,
)  # fmt: skip
