"""What several commands ask of their options: strategies that exist, folders that can be written to."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from quant_assets.common.errors import ConfigurationError

if TYPE_CHECKING:
    from quant_assets.lineage.settings import Settings


def require_folder(file: Path | None, option: str) -> None:
    """Before any work: what is to be written can be.

    Raises
    ------
    typer.BadParameter
        When the folder of the file is not there.
    """
    if file is not None and not file.absolute().parent.is_dir():
        raise typer.BadParameter(f"no folder {file.absolute().parent}", param_hint=option)


def require_strategies(names: Iterable[str], settings: "Settings", option: str = "--strategy") -> None:
    """Each name is that of a configured strategy.

    Raises
    ------
    ConfigurationError
        Lists those that exist.
    """
    unknown = [name for name in names if name not in settings.strategies]
    if unknown:
        raise ConfigurationError(
            f"option {option}",
            expected=f"one of {', '.join(sorted(settings.strategies))}",
            found=", ".join(unknown),
            action="correct the name, or add its file to configs/strategies/",
        )
