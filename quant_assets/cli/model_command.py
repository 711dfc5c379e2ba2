"""``quant-assets model``: look into bundles, verify, export and compare them.

Exit codes of each: 0 done, 1 a bundle was refused, 2 wrong usage or nothing there.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quant_assets.cli.terminal import (
    out,
    plain,
    quiet,
    require_folder,
    show_error,
    styled,
    table_of,
    write_json,
)
from quant_assets.common.errors import ArtifactError, ConfigurationError, RegistryError

if TYPE_CHECKING:
    from quant_assets.artifacts.bundle.bundle import Bundle
    from quant_assets.artifacts.bundle.signing import TrustedKeys
    from quant_assets.cli.model_compare import ModelView
    from quant_assets.registry.champion import FoundBundle

model_app = typer.Typer(
    no_args_is_help=True, help="Look into model bundles, verify, export and compare them."
)

ALIAS = Annotated[str, typer.Option(help="champion (in charge) or candidate (the newest one made).")]
JSON = Annotated[Path | None, typer.Option("--json", help="Also write everything here as JSON.")]
KEY = Annotated[
    list[Path] | None,
    typer.Option("--key", help="Public key to trust instead of the configured ones; repeat."),
]


@model_app.command()
def show(
    strategy: Annotated[str, typer.Argument(help="A strategy, or the path of a bundle.")],
    alias: ALIAS = "champion",
    json_output: JSON = None,
) -> None:
    """Show what a model is: manifest, versions, verdicts, metrics, upstream, key, size, inputs and where it is from.

    The bundle is verified first. Exit code 0 shown, 1 when it is refused, 2 for wrong usage or nothing there.

    Example: quant-assets model show planted_edge --alias candidate
    """
    from quant_assets.cli.model_compare import show_view

    require_folder(json_output, "--json")
    view = _view(_found(strategy, alias))
    show_view(view)
    write_json(json_output, view.to_json())


@model_app.command()
def verify(
    target: Annotated[
        str, typer.Argument(metavar="STRATEGY|FILE", help="A strategy, or the path of a bundle.")
    ],
    signature: Annotated[
        Path | None, typer.Option(help="Signature of the file; by default the .sig beside it.")
    ] = None,
    key: KEY = None,
    alias: ALIAS = "champion",
    json_output: JSON = None,
) -> None:
    """Verify a bundle step by step: signature, archive, files, payload scan, graphs, native models.

    Nothing is loaded. Exit code 0 when every step passed, 1 when the bundle is refused, 2 for wrong usage or
    nothing there.

    Example: quant-assets model verify bundle.zip --signature bundle.sig --key signer.pub
    """
    from quant_assets.artifacts.bundle.bundle import Step, examine_bundle
    from quant_assets.registry.champion import require_promoted

    require_folder(json_output, "--json")
    found = _found(target, alias, signature)
    examination = examine_bundle(found.archive, found.signature, _trusted(key))
    steps, error = list(examination.steps), None
    if found.pointer is not None and examination.bundle is not None:
        try:
            require_promoted(found.pointer, found.archive, examination.bundle)
            steps.append(Step("as promoted", "passed", f"registry version {found.pointer.model_version}"))
        except RegistryError as refusal:
            error = refusal
            steps.append(Step("as promoted", "failed", refusal.found))
    elif found.pointer is not None:
        steps.append(Step("as promoted", "not run", "nothing is compared after a failed step"))
    passed = examination.bundle is not None and error is None
    console = out()
    table = table_of(found.label, ("step", "result", "detail"), overflow="fold")
    for step in steps:
        table.add_row(step.name, styled(step.status), plain(step.detail))
    console.print(table)
    console.print(
        f"[bold]{plain(found.label)}[/]: "
        + ("[green]verified[/]" if passed else "[red]refused: do not load it[/]")
        + f"; exit code {int(not passed)}"
    )
    rows = [{"step": s.name, "status": s.status, "detail": s.detail} for s in steps]
    write_json(json_output, {"target": found.label, "verified": passed, "steps": rows})
    raise typer.Exit(int(not passed))


@model_app.command()
def export(
    strategy: Annotated[str, typer.Argument(help="A strategy, or the path of a bundle.")],
    to: Annotated[Path, typer.Option(help="Folder to write to; made when it is not there.")],
    unpacked: Annotated[
        bool, typer.Option("--unpacked/--packed", help="Also write the single files, below unpacked/.")
    ] = False,
    alias: ALIAS = "champion",
    json_output: JSON = None,
) -> None:
    """Write a model's bundle and its signature to a folder. It is verified first, and nothing is overwritten.

    Exit code 0 written, 1 when the bundle is refused, 2 for wrong usage, nothing there, or a file in the way.

    Example: quant-assets model export planted_edge --to release/ --unpacked
    """
    from quant_assets.common.files import write_whole

    require_folder(json_output, "--json")
    found = _found(strategy, alias)
    bundle = _verified(found)
    files = {"bundle.zip": found.archive, "bundle.sig": found.signature or b""}
    if unpacked:
        files |= {f"unpacked/{name}": data for name, data in bundle.files.items()}
    taken = [name for name in files if (to / name).exists()]
    if taken or (to.exists() and not to.is_dir()):
        raise ConfigurationError(
            f"folder {to}",
            expected="a folder without these files",
            found=", ".join(taken) or "a file of this name",
            action="name another folder: nothing is overwritten",
        )
    for name, data in files.items():
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        write_whole(to / name, data)
    console = out()
    for name, data in files.items():
        console.print(f"  {plain(str(to / name))}  [dim]{len(data)} bytes[/]")
    console.print(f"{plain(found.label)} {bundle.manifest.subject[:12]}, signed by key {bundle.fingerprint}")
    written = {name: len(data) for name, data in files.items()}
    write_json(
        json_output, {"model": found.label, "folder": str(to), "files": written, "key": bundle.fingerprint}
    )


@model_app.command()
def compare(
    first: Annotated[
        str, typer.Argument(metavar="A", help="strategy, strategy@alias, or the path of a bundle.")
    ],
    second: Annotated[str, typer.Argument(metavar="B", help="The same of the other model.")],
    alias: ALIAS = "champion",
    everything: Annotated[
        bool, typer.Option("--all/--differences", help="Also lines that are equal.")
    ] = False,
    json_output: JSON = None,
) -> None:
    """Compare two models: features, metrics, verdicts, sizes, upstream, libraries, and their scores.

    Both are verified first. Scores are compared on the rows of the first model's training set.

    Exit code 0 compared (whatever the differences), 1 when a bundle is refused, 2 for wrong usage or nothing there.

    Example: quant-assets model compare planted_edge@champion planted_edge@candidate
    """
    from quant_assets.cli.model_compare import compare_models, show_comparison
    from quant_assets.common.home import Home
    from quant_assets.defs.running import open_instance
    from quant_assets.defs.storage import EventLog
    from quant_assets.lineage.found import training_frame

    require_folder(json_output, "--json")
    a, b = (_view(_found(target, alias)) for target in (first, second))
    manifest = a.bundle.manifest
    with open_instance() as instance:
        versions = EventLog(instance, Home())
        rows = training_frame(versions, manifest.strategy, manifest.upstream.get("training_set", ""))
    comparison = compare_models(a, b, rows)
    show_comparison(comparison, everything=everything)
    write_json(json_output, comparison.to_json())


def _found(target: str, alias: str, signature: Path | None = None) -> "FoundBundle":
    """What a user named: an existing or evident path is a file, everything else a strategy."""
    from quant_assets.common.home import Home
    from quant_assets.defs.running import open_instance
    from quant_assets.defs.storage import EventLog
    from quant_assets.lineage.configured import load_settings
    from quant_assets.lineage.found import find_strategy
    from quant_assets.lineage.graph import Lineage
    from quant_assets.registry.champion import find_file

    quiet()
    if "/" in target or target.endswith(".zip") or Path(target).is_file():
        return find_file(Path(target), signature)
    if signature is not None:
        raise typer.BadParameter("goes with a file; a strategy has its own", param_hint="--signature")
    name, _, chosen = target.partition("@")
    home = Home()
    with open_instance() as instance:
        versions = EventLog(instance, home)
        return find_strategy(versions, home, Lineage(load_settings()), name, chosen or alias)


def _trusted(keys: list[Path] | None) -> "TrustedKeys":
    from quant_assets.artifacts.bundle.signing import TrustedKeys, read_public_key, trusted_keys
    from quant_assets.common.places import home_dir

    return TrustedKeys.of(map(read_public_key, keys)) if keys else trusted_keys(home_dir())


def _verified(found: "FoundBundle") -> "Bundle":
    """The bundle, or the one error that refuses it and exit code 1."""
    from quant_assets.artifacts.bundle.bundle import verify_bundle
    from quant_assets.registry.champion import require_promoted

    try:
        bundle = verify_bundle(found.archive, found.signature, _trusted(None))
        if found.pointer is not None:
            require_promoted(found.pointer, found.archive, bundle)
    except (ArtifactError, RegistryError) as error:
        show_error(f"{found.label}: {error}", "refused")
        raise typer.Exit(1) from error
    return bundle


def _view(found: "FoundBundle") -> "ModelView":
    from quant_assets.cli.model_compare import ModelView
    from quant_assets.common.hashing import bytes_digest
    from quant_assets.common.home import Home
    from quant_assets.defs.running import open_instance
    from quant_assets.defs.storage import EventLog
    from quant_assets.lineage.configured import load_settings
    from quant_assets.lineage.found import reports_about
    from quant_assets.lineage.graph import Lineage

    bundle = _verified(found)
    manifest = bundle.manifest
    with open_instance() as instance:
        versions = EventLog(instance, Home())
        reports = reports_about(versions, Lineage(load_settings()), manifest.strategy, manifest.subject)
    digest = bytes_digest(found.archive)
    return ModelView(found.label, bundle, len(found.archive), digest, found.source, reports)
