"""``quant-assets config``: read and check the configuration. Exit codes: 0 valid, 2 not."""

import typer

from quant_assets.cli.terminal import json_text, out, show_text

config_app = typer.Typer(no_args_is_help=True, help="Read and check the configuration.")


@config_app.command("show")
def config_show() -> None:
    """Print the whole configuration, defaults included, as JSON. Example: quant-assets config show"""
    from quant_assets.lineage.configured import load_settings

    show_text(json_text(load_settings().model_dump(mode="json"), sort_keys=False))


@config_app.command("validate")
def config_validate() -> None:
    """Check every file of the configuration. Example: quant-assets config validate"""
    from quant_assets.common.configuration import config_dir
    from quant_assets.lineage.configured import load_settings

    settings = load_settings()
    out().print(
        f"{config_dir()}: {len(settings.universes)} universes, {len(settings.strategies)} strategies, "
        f"gates and monitoring are valid"
    )
