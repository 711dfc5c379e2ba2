"""The command ``quant-assets init``: a desk's own project, a copy of the example that ships."""

import keyword
import re
import shutil
import sys
import tempfile
from importlib.machinery import PathFinder
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quant_assets.cli.terminal import out, plain, quiet
from quant_assets.common.errors import ConfigurationError
from quant_assets.common.places import shipped_configs, shipped_project

if TYPE_CHECKING:
    from quant_assets.market.sources.adoption import Adopted

# What the example is called in its own files, and the universe of its strategy.
EXAMPLE, EXAMPLE_UNIVERSE = "my_desk", "example_market"
STRATEGY = "own_parts"
DATA = "data"
# A project is known by this table of its pyproject.toml.
MARK = "[tool.quant_assets]"
_NAME = re.compile(r"[a-z][a-z0-9_]{1,40}")
_BUILT = shutil.ignore_patterns("__pycache__", "*.pyc", ".*_cache", ".quant_assets")


def init(
    folder: Annotated[
        Path, typer.Argument(help="The folder to make; its name is that of the Python package in it.")
    ] = Path(EXAMPLE),
    prices: Annotated[
        Path | None,
        typer.Option("--from", help="Daily bars to begin with: a file that run --universe-file reads."),
    ] = None,
    calendar: Annotated[
        str | None,
        typer.Option(help="With --from: its calendar, such as XNYS, XLON, 24/5, 24/7; else found."),
    ] = None,
    exchange: Annotated[
        str | None,
        typer.Option(help="With --from: its exchange, by MIC or name, in the place of --calendar."),
    ] = None,
    asset_class: Annotated[
        str | None, typer.Option(help="With --from: equity, future, fx or crypto, for what trading costs.")
    ] = None,
) -> None:
    """Make a project of a desk's own: configuration, one example of each plug-in with its test, a workflow for CI.

    With --from the bars are copied into the project and the example strategy trades them; without it trades a seeded
    synthetic market. The project is written whole or not at all. Exit code 0 made, 2 not.

    Example: quant-assets init my_desk --from prices.csv
    """
    quiet()
    if prices is None and (calendar or exchange or asset_class):
        raise typer.BadParameter("goes with --from", param_hint="--calendar/--exchange/--asset-class")
    if calendar and exchange:
        raise typer.BadParameter("only one of them", param_hint="--calendar / --exchange")
    folder = folder.resolve()
    name = folder.name
    _require_free(folder)
    _require_name(name)
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}.") as near:
            made = Path(near) / name
            copy_project(made, name)
            adopted = adopt_prices(prices, made, calendar or exchange, asset_class) if prices else None
            made.rename(folder)
    except OSError as error:
        raise ConfigurationError(
            f"folder {folder}",
            expected="a place where a project can be written",
            found=f"{type(error).__name__}: {error}",
            action="make room or choose another place: nothing was written",
        ) from error
    _show(folder, adopted)


def _require_free(folder: Path) -> None:
    """Nothing is where the project goes, and it does not go into another project."""
    for above in (folder, *folder.parents):
        file = above / "pyproject.toml"
        if file.is_file() and MARK in file.read_text(encoding="utf-8", errors="replace"):
            raise ConfigurationError(
                f"folder {folder}",
                expected="a place outside of any project",
                found=f"a project already: {above}",
                action="go on in that one (make check), or make another outside of it",
            )
    found, action = None, "choose another name"
    if folder == Path.cwd():
        found, action = "the folder that you are in", "go to the folder above, and name this one"
    elif folder.is_dir() and any(folder.iterdir()):
        found = f"{len(list(folder.iterdir()))} files and folders in it"
    elif folder.exists() and not folder.is_dir():
        found = "a file"
    elif not folder.parent.is_dir():
        found, action = f"no folder {folder.parent}", "make that one first"
    if found is not None:
        raise ConfigurationError(
            f"folder {folder}", expected="a new folder, or an empty one", found=found, action=action
        )


def _require_name(name: str) -> None:
    """The name can be that of a package, and no module is imported by it."""
    own = {*(entry.name for entry in shipped_project().iterdir() if entry.is_dir()), DATA} - {EXAMPLE}
    found = None
    if _NAME.fullmatch(name) is None or keyword.iskeyword(name):
        found = "no such name"
    elif name in own:
        found = "the name of another folder of the project"
    else:
        for module in (name, f"{name}_tests"):
            # Not what lies in the folder it is typed in: the project's own folder does.
            elsewhere = [place for place in sys.path if place not in ("", str(Path.cwd()))]
            if module in sys.stdlib_module_names or PathFinder.find_spec(module, elsewhere) is not None:
                found = f"an installed module {module}"
    if found is not None:
        raise ConfigurationError(
            f"project {name!r}",
            expected="the name of a new Python package: small letters, digits and _, a letter first, 2 to 41 of them",
            found=found,
            action="choose another name, as in quant-assets init my_desk",
        )


def copy_project(target: Path, name: str) -> None:
    """The example under another name, with the limits and the monitoring that ship.

    Parameters
    ----------
    target : Path
        A folder that is not there.
    """
    shutil.copytree(shipped_project(), target, ignore=_BUILT)
    release = version("quant-assets")
    major, minor = release.split(".")[:2]
    said = {
        '"quant-assets"': f'"quant-assets>={release},<{major}.{int(minor) + 1}"',
        EXAMPLE: name,
        EXAMPLE.replace("_", "-"): name.replace("_", "-"),
    }
    for file in [entry for entry in target.rglob("*") if entry.is_file()]:
        text = file.read_text(encoding="utf-8")
        for ours, theirs in said.items():
            text = text.replace(ours, theirs)
        file.write_text(text, encoding="utf-8")
    for suffix in ("", "_tests"):
        (target / f"{EXAMPLE}{suffix}").rename(target / f"{name}{suffix}")
    for limits in ("gates.yaml", "monitoring.yaml"):
        shutil.copyfile(shipped_configs() / limits, target / "configs" / limits)


def adopt_prices(prices: Path, project: Path, calendar: str | None, asset_class: str | None) -> "Adopted":
    """A file of bars as the universe of a project's strategy, with a copy of the file beside it.

    Raises
    ------
    QuantAssetsError
        As `quant_assets.market.sources.adoption.adopt_file`.
    """
    import glob
    from typing import get_args

    import yaml

    from quant_assets.common.configuration import read_yaml
    from quant_assets.common.settings import AssetClass, StrategyConfig
    from quant_assets.lineage.configured import is_reserved
    from quant_assets.market.sources.adoption import adopt_file

    if asset_class is not None and asset_class not in get_args(AssetClass):
        raise typer.BadParameter(f"one of {', '.join(get_args(AssetClass))}", param_hint="--asset-class")
    configs = project / "configs"
    (configs / "universes" / f"{EXAMPLE_UNIVERSE}.yaml").unlink()
    adopted = adopt_file(
        prices,
        configs,
        like=StrategyConfig(name=STRATEGY, universe=EXAMPLE_UNIVERSE),
        taken=lambda taken: taken == STRATEGY or is_reserved(taken),
        calendar=calendar,
        asset_class=asset_class,
    )
    adopted.strategy_file.unlink()  # the project has a strategy of its own
    said = read_yaml(adopted.universe_file, environment=False)
    source, copy = said["source"], project / DATA / prices.name
    source["path"] = source["path"].replace(
        glob.escape(str(prices.resolve())), f"{DATA}/{glob.escape(prices.name)}"
    )
    copy.parent.mkdir(exist_ok=True)
    if prices.is_dir():
        shutil.copytree(prices, copy)
    else:
        shutil.copyfile(prices, copy)
    text = yaml.safe_dump(said, sort_keys=False, allow_unicode=True, width=110)
    adopted.universe_file.write_text(text, encoding="utf-8")
    strategy = configs / "strategies" / f"{STRATEGY}.yaml"
    text = strategy.read_text(encoding="utf-8").replace(EXAMPLE_UNIVERSE, adopted.universe)
    strategy.write_text(text, encoding="utf-8")
    return adopted


def _show(folder: Path, adopted: "Adopted | None") -> None:
    """What was made, and how to go on."""
    console, name = out(), folder.name
    console.print(f"{plain(str(folder))}: made")
    for place, what in (
        (f"{name}/", "a feature pack, a label, a model, sizing, costs, a gate and a source of your own"),
        (f"{name}_tests/", "their tests"),
        ("configs/", f"limits, a universe, and the strategy {STRATEGY} that uses them"),
    ):
        console.print(f"  {plain(place):<{len(name) + 8}} {plain(what)}")
    if adopted is not None:
        held = adopted.summary
        console.print(
            f"{plain(adopted.universe)}: {len(held.symbols)} names, {len(held.market_days)} sessions, "
            f"{held.start} to {held.end}"
        )
        for note in adopted.notes:
            console.print(f"  - {plain(note)}")
    shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    console.print(f"\nNext:\n  [bold]cd {plain(str(shown))}[/]\n  [bold]make check[/]")
