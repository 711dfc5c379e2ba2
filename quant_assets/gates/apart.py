"""Code that may only close is asked in a process of its own: there it can touch nothing that judges.

It cannot keep anything waiting. What it is shown lies in a folder of its own, and the process has neither the
platform's home nor keys in its environment. What it writes back is read as plain data. Whatever else happens there, a
crash, an exit, silence, is no finding.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from quant_assets.common.errors import QuantAssetsError
from quant_assets.common.places import config_dir
from quant_assets.common.plugins import Plugin
from quant_assets.gates.desk_gates import Finding, TrackRecord
from quant_assets.gates.verdicts import Comparison

if TYPE_CHECKING:
    import polars as pl

SECONDS = 60.0
# What a process needs to run at all; keys, addresses and passwords of the platform are not among it.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "SYSTEMROOT", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
_JOB, _FRAME, _VALUE, _RESULT = "job.json", "frame.parquet", "value.json", "result.json"


def asked_apart(
    plugin: Plugin,
    kind: str,
    *,
    frame: "pl.DataFrame | None" = None,
    value: Any = None,
    told: Mapping[str, Any] | None = None,
    seconds: float = SECONDS,
) -> Finding | str:
    """What a desk's own gate or check finds, or why it finds nothing.

    Parameters
    ----------
    plugin : Plugin
    kind : str
        What it has to be, for messages, as in ``"a gate"``.
    frame : polars.DataFrame, optional
        With ``told`` the paths of a `TrackRecord`, without it what the function is called with.
    value : plain data, optional
        What the function is called with where there is no frame.
    told : mapping, optional
        As `quant_assets.gates.desk_gates.told_of`.
    seconds : float
        After which the process, and all that it started, is ended.
    """
    with tempfile.TemporaryDirectory(prefix="quant-assets-") as place:
        folder = Path(place)
        if frame is not None:
            frame.write_parquet(folder / _FRAME)
        else:
            (folder / _VALUE).write_text(json.dumps(value))
        named = plugin.model_dump(mode="json", include={"use", "options"})
        job = {"plugin": named, "kind": kind, "told": dict(told) if told else None}
        (folder / _JOB).write_text(json.dumps(job))
        with (folder / "said").open("wb") as said:
            child = subprocess.Popen(  # noqa: S603 - this interpreter and this module
                [sys.executable, "-P", "-m", __name__, str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd=folder,
                env=_environment(),
                start_new_session=True,
            )
            try:
                code = child.wait(seconds)
            except subprocess.TimeoutExpired:
                return f"no answer within {seconds:g} s"
            finally:
                _end(child)
        return _answer(folder / _RESULT, code)


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "QUANT_ASSETS_CONFIGS": str(config_dir()),
    }


def _end(child: "subprocess.Popen[bytes]") -> None:
    """End a process with all that it started."""
    with suppress(ProcessLookupError):  # all gone
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _answer(file: Path, code: int) -> Finding | str:
    """What was written back, trusting nothing of it."""
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return f"its process ended with code {code} and said nothing"
    except ValueError:
        return "what it wrote back cannot be read"
    if isinstance(told, dict) and isinstance(told.get("error"), str):
        return str(told["error"])
    fields = ("observed", "limit", "comparison", "quantity", "remedy")
    if not isinstance(told, dict) or sorted(told) != sorted(fields):
        return "what it wrote back is no finding"
    numbers = all(type(told[name]) in (int, float) for name in ("observed", "limit"))
    words = all(isinstance(told[name], str) for name in ("quantity", "remedy"))
    if not numbers or not words or told["comparison"] not in get_args(Comparison):
        return "what it wrote back is no finding"
    return Finding(
        float(told["observed"]), float(told["limit"]), told["comparison"], told["quantity"], told["remedy"]
    )


# ---------------------------------------------------------------------------------------- in the other process

# `Finding` is that of `quant_assets.gates.desk_gates` there too: only this module's own names exist twice.


def found_by(plugin: Plugin, kind: str, shown: Any) -> Finding:
    """Call a desk's own gate or check on what it is shown, in this process.

    Raises
    ------
    QuantAssetsError
        When there is no such function, or it gives no `Finding`.
    """
    found = plugin.load(kind)(shown, **plugin.options)
    if not isinstance(found, Finding):
        raise QuantAssetsError(
            f"{plugin.use}, {kind}",
            expected="a Finding, as quant_assets.gates.at_least and at_most make one",
            found=type(found).__name__,
            action="return one",
        )
    return Finding(
        float(found.observed), float(found.limit), found.comparison, str(found.quantity), str(found.remedy)
    )


def _main(folder: Path) -> None:
    import polars as pl

    job = json.loads((folder / _JOB).read_text())
    shown: Any
    if (folder / _FRAME).exists():
        shown = pl.read_parquet(folder / _FRAME)
        if job["told"] is not None:
            shown = TrackRecord.of(shown, job["told"])
    else:
        shown = json.loads((folder / _VALUE).read_text())
    try:
        found = found_by(Plugin.model_validate(job["plugin"]), job["kind"], shown)
        answer = {
            "observed": found.observed,
            "limit": found.limit,
            "comparison": found.comparison,
            "quantity": found.quantity,
            "remedy": found.remedy,
        }
    except Exception as error:  # noqa: BLE001 - a desk's own code may raise anything: it is told, and closes
        told = str(error) if isinstance(error, QuantAssetsError) else f"{type(error).__name__}: {error}"
        answer = {"error": told}
    (folder / _RESULT).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
