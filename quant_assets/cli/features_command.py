"""The command ``quant-assets features``. Exit codes: 0 written, 1 refused or failed, 2 wrong usage."""

from pathlib import Path
from typing import Annotated

import typer

from quant_assets.cli.terminal import out, plain, quiet, require_folder, show_error


def features(
    bars: Annotated[
        str | None,
        typer.Option("--bars", help="Parquet file of daily bars, a folder of them, or a glob in quotes."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--out", help="A .parquet file, or a folder for part-*.parquet; what is there is replaced."
        ),
    ] = None,
    pack: Annotated[
        str, typer.Option(help="Name of the feature pack, or module:object of one of your own.")
    ] = "technical_v1",
    block_rows: Annotated[
        int | None,
        typer.Option(
            min=1, help="Bars in memory per worker; default 1,000,000 (below 1 GB with one worker)."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Blocks at the same time, in processes.")] = 1,
) -> None:
    """List the feature packs; with --bars and --out compute one over a universe that may be larger than memory.

    Listed are the packs of the platform and those that the strategies of the configuration name. Computed is a block
    of symbols at a time: the bits are those of the whole panel at once, whatever the size of the blocks and the
    workers. Exit code 0 when the packs are listed or the features are written; 1 when a pack of a strategy cannot be
    used, the bars are refused or the work failed (the output is then as it was); 2 for wrong usage.

    Example: quant-assets features --bars bars.parquet --pack technical_v1 --out features.parquet --workers 2
    """
    from quant_assets.common.errors import QuantAssetsError
    from quant_assets.common.plugins import names_a_plugin
    from quant_assets.features import packs

    quiet()
    if bars is None and output is None:
        _list()
        return
    if bars is None or output is None:
        raise typer.BadParameter("both or none: --bars FILES --out FILE", param_hint="--bars, --out")
    from quant_assets.features.blocks import BLOCK_ROWS, compute_in_blocks

    if pack not in packs() and not names_a_plugin(pack):
        raise typer.BadParameter(
            f"{pack!r} is none of {', '.join(packs())}, and no module:object", param_hint="--pack"
        )
    require_folder(output, "--out")
    console = out()

    def report(done: int, total: int) -> None:
        """About ten lines, and always the last."""
        if done == total or done % max(1, total // 10) == 0:
            console.print(f"  [dim]{done:>4} of {total} tasks[/]")

    try:
        run = compute_in_blocks(
            bars,
            output,
            pack,
            block_rows=block_rows or BLOCK_ROWS,
            workers=workers,
            threads=1 if workers > 1 else None,
            processes=workers > 1,
            progress=report,
        )
    except QuantAssetsError as error:
        show_error(str(error))
        raise typer.Exit(1) from error
    blocks = f"{run.blocks} block{'s' if run.blocks > 1 else ''} of symbols"
    across = f" and {run.session_blocks} of sessions" if run.session_blocks else ""
    first = ", sorted into blocks first" if run.sorted_first else ""
    console.print(f"{run.rows:,} rows of {pack} in {blocks}{across}{first}: {plain(str(run.out))}")


def _list() -> None:
    """Every pack by name, with the strategies that use it. Those of a desk's own are measured for it."""
    from quant_assets.cli.terminal import table_of
    from quant_assets.common.errors import QuantAssetsError
    from quant_assets.features import packs
    from quant_assets.features.pack import find_pack
    from quant_assets.lineage.configured import load_settings

    used: dict[str, list[str]] = {name: [] for name in packs()}
    broken = []
    try:
        settings = load_settings()
    except QuantAssetsError as error:
        broken.append(str(error))
    else:
        broken += [str(problem.error) for problem in settings.left_out if problem.kind == "strategy"]
        for strategy in settings.strategies.values():
            for pack in strategy.feature_packs:
                used.setdefault(pack, []).append(strategy.name)
    table = table_of("Feature packs", ("pack", "named as", "features", "warm-up", "used by"), overflow="fold")
    for named, strategies in used.items():
        try:
            pack = find_pack(named)
            names, warm_up = ", ".join(pack.names[:4]), str(pack.warm_up)
        except QuantAssetsError as error:
            broken.append(str(error))
            continue
        shown = f"{len(pack.names)}: {names}" + (", ..." if len(pack.names) > 4 else "")
        own = named if named != pack.name else "the platform's"
        table.add_row(pack.name, plain(own), shown, warm_up, ", ".join(strategies) or "nobody")
    out().print(table)
    for text in broken:
        show_error(text)
    if broken:
        raise typer.Exit(1)
