"""The wheel of this checkout, and an environment in which nothing else of it can be imported."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
# The libraries of this environment. As an entry of a path it is a folder and no more: the file in it that points to
# the checkout is read where it is the site of an interpreter only.
LIBRARIES = sysconfig.get_path("purelib")


def built_wheel(folder: Path) -> Path:
    """The wheel, built by the build backend itself: what ``uv build`` and ``pip wheel`` call."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=CHECKOUT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def unpacked(wheel: Path, folder: Path) -> Path:
    """Its files in a folder, as an installer puts them."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def outside(home: Path) -> dict[str, str]:
    """The variables of a user who has never heard of this checkout."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("QUANT_ASSETS", "PYTHON"))
    }
    return {**kept, "HOME": str(home), "DO_NOT_TRACK": "1", "NUMBA_NUM_THREADS": "2"}


def environment_with(wheel: Path, folder: Path) -> Path:
    """A virtual environment with the wheel installed, and this environment's libraries behind it.

    Installing every library anew takes 1.4 GB and a network: they are lent by a line of a ``.pth`` file.

    Returns
    -------
    Path
        Its folder of programs.
    """
    venv.create(folder, with_pip=True)
    programs = folder / "bin"
    install = ["pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([programs / "python", "-m", *install], check=True, capture_output=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "lent.pth").write_text(f"{LIBRARIES}\n")
    return programs
