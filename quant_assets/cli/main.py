"""The ``quant-assets`` command. Exit codes: 0 done, 1 refused or failed, 2 wrong usage or no verdict."""

import sys

import typer

from quant_assets.cli.backtest_command import backtest
from quant_assets.cli.calibrate_command import calibrate
from quant_assets.cli.check_command import check
from quant_assets.cli.config_command import config_app
from quant_assets.cli.features_command import features
from quant_assets.cli.model_command import model_app
from quant_assets.cli.replay_command import replay
from quant_assets.cli.run_command import run
from quant_assets.cli.terminal import show_error, show_text
from quant_assets.cli.validate_command import validate
from quant_assets.common.errors import QuantAssetsError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Quant machine learning as gated, replayable Dagster assets.",
)
for command in (backtest, calibrate, features, replay, validate, run, check):
    app.command()(command)
app.add_typer(config_app, name="config")
app.add_typer(model_app, name="model")


@app.command("instance-path", hidden=True)
def instance_path() -> None:
    """Print the folder that DAGSTER_HOME must be, with its dagster.yaml in place."""
    from quant_assets.defs.running import dagster_home

    show_text(str(dagster_home()))


def main() -> None:
    """Entry point: a platform error ends with its one message and exit code 2, never with a traceback."""
    try:
        app()
    except QuantAssetsError as error:
        show_error(str(error))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
