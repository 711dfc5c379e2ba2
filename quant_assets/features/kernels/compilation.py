"""How kernels are compiled and where their machine code is kept.

numba stamps cached machine code with the modification time of *one* file, the caller's. A kernel that calls
into another module therefore keeps running that module's old arithmetic after an edit or an upgrade. So the
cache folder carries the fingerprint of all kernel sources: changed arithmetic is always compiled again.
"""

import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

from quant_assets.common.hashing import bytes_digest, combined_fingerprint

Function = TypeVar("Function", bound=Callable[..., object])


@cache
def sources_fingerprint() -> str:
    """Digest of all kernel sources and of the compiler: 16 hexadecimal characters."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return combined_fingerprint([*(bytes_digest(f.read_bytes()) for f in files), numba.__version__])[:16]


def machine_code_folder() -> str:
    """First writable place for compiled kernels, below a folder named by their fingerprint.

    Beside the sources, then ``NUMBA_CACHE_DIR`` or the user's cache, then the temporary folder: an image
    with a read-only file system still starts, it only compiles in each container.
    """
    fingerprint = sources_fingerprint()
    named = os.environ.get("NUMBA_CACHE_DIR")
    user = Path(named) if named else Path.home() / ".cache" / "quant-assets"
    for parent in (Path(__file__).parent / "__pycache__", user):
        folder = parent / f"kernels-{fingerprint}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:  # read-only or not ours: the next candidate serves as well
            continue
        if os.access(folder, os.W_OK):
            return str(folder)
    return tempfile.mkdtemp(prefix="quant-assets-kernels-")


def kernel(function: Function) -> Function:
    """Compile a function as all kernels are: cached, without the interpreter lock, IEEE division.

    ``error_model="numpy"`` because Python's raises on a zero divisor, and that branch keeps loops scalar.
    """
    settings: Any = numba.config
    configured = settings.CACHE_DIR
    settings.CACHE_DIR = machine_code_folder()
    try:
        return cast(Function, numba.njit(cache=True, nogil=True, error_model="numpy")(function))
    finally:
        settings.CACHE_DIR = configured
