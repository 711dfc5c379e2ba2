"""The ``quant-assets`` command. Exit codes: 0 done, 1 refused or failed, 2 wrong usage or no verdict, 130 ended."""

import os
import sys
from typing import Annotated

import typer

from quant_assets.cli.backtest_command import backtest
from quant_assets.cli.calibrate_command import calibrate
from quant_assets.cli.data_command import data_app
from quant_assets.cli.demo_command import demo
from quant_assets.cli.features_command import features
from quant_assets.cli.init_command import init
from quant_assets.cli.ledger_commands import desk, promotion_app, trials_app
from quant_assets.cli.model_command import model_app
from quant_assets.cli.replay_command import replay
from quant_assets.cli.run_commands import check, run, validate
from quant_assets.cli.terminal import json_text, out, quiet, show_error, show_text
from quant_assets.cli.try_command import try_
from quant_assets.common.errors import QuantAssetsError

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
    """Check every file of the configuration, and build what it describes.

    Exit code 0 when every file can be used, 2 with one error for each that cannot; the others run without it.

    Example: quant-assets config validate
    """
    from quant_assets.common.places import config_dir
    from quant_assets.lineage.configured import calendar_problems, load_settings
    from quant_assets.lineage.desk_code import import_problems
    from quant_assets.lineage.requirements import too_short

    quiet()
    settings = load_settings()
    problems = [problem.error for problem in settings.left_out] + calendar_problems(settings)
    problems += [problem for each in settings.strategies.values() for problem in import_problems(each)]
    for problem in problems:
        show_error(str(problem))
    from quant_assets.definitions import require_loadable

    require_loadable(settings)
    for sentence in too_short(settings):
        show_error(sentence, "warning")
    if problems:
        raise typer.Exit(2)
    out().print(
        f"{config_dir()}: {len(settings.universes)} universes, {len(settings.strategies)} strategies, "
        f"gates and monitoring are valid"
    )


# Of unknown commands click itself names the closest one: typer would say it twice.
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, suggest_commands=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        show_text(f"quant-assets {version('quant-assets')}")
        raise typer.Exit


@app.callback()
def quant_assets(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version of the package."
        ),
    ] = False,
) -> None:
    """Quant machine learning as gated, replayable Dagster assets."""


for command in (backtest, calibrate, demo, desk, features, init, replay, validate, run, check):
    app.command()(command)
app.command("try")(try_)
app.add_typer(config_app, name="config")
app.add_typer(data_app, name="data")
app.add_typer(model_app, name="model")
app.add_typer(promotion_app, name="promotion")
app.add_typer(trials_app, name="trials")


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="Where to listen.")] = 3000,
    host: Annotated[
        str, typer.Option(help="Address to listen on. There is no log-in: 127.0.0.1 is this machine only.")
    ] = "127.0.0.1",
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="A further name that browsers may address it by, as a proxy in front has; repeat."),
    ] = None,
) -> None:
    """Serve the Dagster UI of everything made here, with its daemon and all reports, until interrupted.

    Reports are below /reports: the links of the UI open them, and /reports/index.html links them all.

    Nobody logs in, so what another site has a browser send is refused: foreign Host or Origin, mutations by GET.
    Exit code 0 interrupted, 1 the daemon stopped, 2 wrong usage.

    Example: quant-assets ui --port 3001
    """
    from quant_assets.common.same_origin import LOOPBACK
    from quant_assets.defs.running import serve_ui

    named = f"[{host}]" if ":" in host else host
    show_text(f"The UI is on http://{named}:{port}")
    show_text(f"The desk's page is on http://{named}:{port}/reports/index.html")
    raise typer.Exit(min(serve_ui(host, port, {*LOOPBACK, named, *(allow_host or [])}), 1))


@app.command("instance-path", hidden=True)
def instance_path() -> None:
    """Print the folder that DAGSTER_HOME must be, with its dagster.yaml in place."""
    from quant_assets.common.home import Home

    show_text(str(Home().dagster_folder()))


def main() -> None:
    """Entry point: a platform error ends with its one message and exit code 2, never with a traceback.

    What a command makes is its user's: ledgers, databases and logs are not for others on the machine to read.
    """
    os.umask(0o077)
    try:
        app()
    except QuantAssetsError as error:
        show_error(str(error))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
