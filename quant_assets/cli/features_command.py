"""The command ``quant-assets features``. Exit codes: 0 written, 1 refused or failed, 2 wrong usage."""

from pathlib import Path
from typing import Annotated

import typer

from quant_assets.cli.terminal import out, plain, quiet, require_folder, show_error


def features(
    bars: Annotated[
        str, typer.Option("--bars", help="Parquet file of daily bars, a folder of them, or a glob in quotes.")
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--out", help="A .parquet file, or a folder for part-*.parquet; what is there is replaced."
        ),
    ],
    pack: Annotated[str, typer.Option(help="Name of the feature pack.")] = "technical_v1",
    block_rows: Annotated[
        int | None,
        typer.Option(
            min=1, help="Bars in memory per worker; default 1,000,000 (below 1 GB with one worker)."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Blocks at the same time, in processes.")] = 1,
) -> None:
    """Compute a feature pack over a universe that may be larger than memory, a block of symbols at a time.

    The bits are those of the whole panel at once, whatever the size of the blocks and the workers. Exit code 0 when
    the features are written; 1 when the bars are refused or the work failed (the output is then as it was); 2 for
    wrong usage.

    Example: quant-assets features --bars bars.parquet --pack technical_v1 --out features.parquet --workers 2
    """
    from quant_assets.common.errors import QuantAssetsError
    from quant_assets.features import packs
    from quant_assets.features.blocks import BLOCK_ROWS, compute_in_blocks

    quiet()
    if pack not in packs():
        raise typer.BadParameter(f"{pack!r} is none of {', '.join(packs())}", param_hint="--pack")
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
