"""``quant-assets config``: read and check the configuration. Exit codes: 0 valid, 2 not."""

import typer

from quant_assets.cli.terminal import json_text, out, show_text

config_app = typer.Typer(no_args_is_help=True, help="Read and check the configuration.")


@config_app.command("show")
def config_show() -> None:
    """Print the whole configuration as JSON, with defaults and the digest of its limits.

    ``gates_digest`` is what QUANT_ASSETS_APPROVED_GATES names in production.

    Example: quant-assets config show
    """
    from quant_assets.gates.limits import gates_digest
    from quant_assets.lineage.configured import load_settings

    settings = load_settings()
    shown = {
        "gates_digest": gates_digest(settings.gates, settings.drift, settings.minima),
        **settings.model_dump(mode="json"),
    }
    show_text(json_text(shown, sort_keys=False))


@config_app.command("validate")
def config_validate() -> None:
    """Check every file of the configuration, and build what it describes. Example: quant-assets config validate"""
    from quant_assets.common.configuration import config_dir
    from quant_assets.lineage.configured import load_settings, require_calendars

    settings = load_settings()
    require_calendars(settings)
    from quant_assets.definitions import require_loadable

    require_loadable(settings)
    out().print(
        f"{config_dir()}: {len(settings.universes)} universes, {len(settings.strategies)} strategies, "
        f"gates and monitoring are valid"
    )
