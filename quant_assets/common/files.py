"""Writing a file whole: a reader sees the old content or the new, never a part of it."""

import os
import tempfile
from pathlib import Path


def write_whole(target: Path, data: bytes) -> None:
    """Write beside the target, flush to disk, then rename over it.

    Parameters
    ----------
    target : Path
        Its folder exists. A file already there is replaced in one step.
    data : bytes

    Raises
    ------
    OSError
        When the disk refuses; the target is then as it was, and nothing is left beside it.
    """
    descriptor, name = tempfile.mkstemp(dir=target.absolute().parent, prefix=".incoming-")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.chmod(0o644)  # mkstemp's 0600 would hide the file from everyone else
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
