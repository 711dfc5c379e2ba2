"""The command ``quant-assets demo``: the strategies that ship, run in any folder."""

from quant_assets.cli.run_commands import run
from quant_assets.common.errors import ConfigurationError
from quant_assets.common.places import config_dir, shipped_configs


def demo() -> None:
    """Run the strategies that ship, a positive control, a negative one and four real names, and print every verdict.

    Works in an empty folder: what is made lies in ./.quant_assets. Exit codes are those of quant-assets run.

    Example: quant-assets demo
    """
    if config_dir().resolve() != shipped_configs().resolve():
        raise ConfigurationError(
            "the demo",
            expected=f"the configuration that ships, {shipped_configs()}",
            found=f"{config_dir()}, which comes before it here",
            action="run it in an empty folder, without QUANT_ASSETS_CONFIGS; your own strategies: quant-assets run",
        )
    run(strategy=sorted(file.stem for file in (shipped_configs() / "strategies").glob("*.yaml")))
