"""The wheel, where there is no checkout."""

import subprocess
import sys
from pathlib import Path

import pytest

from quant_assets_tests.wheel import CHECKOUT, LIBRARIES, built_wheel, outside, unpacked


class Installed:
    """The command of an unpacked wheel, typed in an empty folder."""

    def __init__(self, package: Path, place: Path) -> None:
        self.package, self.place = package, place

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        # Without -S the interpreter's own site would add the checkout.
        environment = {**outside(self.place), "PYTHONPATH": f"{self.package}:{LIBRARIES}"}
        return subprocess.run(
            [sys.executable, "-S", *arguments],
            cwd=self.place, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def __call__(self, *arguments: str) -> str:
        done = self.python("-m", "quant_assets.cli.main", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_wheel(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def package(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked(wheel, tmp_path_factory.mktemp("site"))


@pytest.fixture
def installed(package: Path, tmp_path: Path) -> Installed:
    return Installed(package, tmp_path)


def test_every_file_of_the_package_is_in_the_wheel_and_nothing_that_was_built(package: Path) -> None:
    def files(folder: Path) -> set[str]:
        found = (f.relative_to(folder) for f in folder.rglob("*") if f.is_file())
        return {
            str(f) for f in found if not any(part.endswith(("__pycache__", "_cache")) for part in f.parts)
        }

    wanted = files(CHECKOUT / "quant_assets")
    wanted |= {f"configs/{name}" for name in files(CHECKOUT / "configs")}
    wanted |= {f"project/{name}" for name in files(CHECKOUT / "infra" / "project")}
    assert files(package / "quant_assets") == wanted
    assert {entry.name for entry in package.iterdir()} == {"quant_assets", "quant_assets-0.1.0.dist-info"}


def test_it_says_its_version_and_how_the_ui_is_opened(installed: Installed) -> None:
    assert installed("--version") == "quant-assets 0.1.0\n"
    assert "--port" in installed("ui", "--help")


def test_it_runs_by_the_configuration_that_ships_with_it_and_by_nothing_of_the_checkout(
    installed: Installed,
) -> None:
    done = installed.python(
        "-c",
        "import sys\n"
        "from quant_assets.cli.main import app\n"
        "app(['config', 'validate'], standalone_mode=False)\n"  # loads the code location of the UI as well
        "from quant_assets.definitions import defs\n"
        "print(len(list(defs.assets)))\n"
        f"print([m for m in sys.modules.values() if '{CHECKOUT}/quant' in str(getattr(m, '__file__', ''))])\n",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    configured, n_assets, of_the_checkout = done.stdout.splitlines()[-3:]
    folder = installed.package / "quant_assets" / "configs"
    assert configured == f"{folder}: 3 universes, 3 strategies, gates and monitoring are valid"
    assert int(n_assets) > 100
    assert of_the_checkout == "[]"
    assert list(installed.place.rglob("*.yaml")) == []


def test_a_project_can_be_made_and_the_demo_keeps_away_from_it(installed: Installed) -> None:
    installed("init", "some_desk")
    assert (installed.place / "some_desk" / "some_desk" / "features.py").is_file()
    assert (installed.place / "some_desk" / "configs" / "gates.yaml").is_file()
    assert list((installed.place / "some_desk").rglob("__pycache__")) == []
    installed.place /= "some_desk"
    refused = installed.python("-m", "quant_assets.cli.main", "demo")
    assert refused.returncode == 2
    assert "run it in an empty folder" in refused.stderr
    assert not (installed.place / ".quant_assets").exists()


def test_the_modules_of_a_desk_without_a_project_are_looked_for_where_it_works(installed: Installed) -> None:
    said = installed.python(
        "-c", "from quant_assets.common.places import config_dir, project_dir; print(project_dir())"
    )
    assert said.stdout.strip() == str(installed.place)
