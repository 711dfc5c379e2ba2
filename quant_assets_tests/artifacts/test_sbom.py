"""The bill of materials: what is installed, in bytes that depend on nothing else."""

import importlib.metadata
import json
import os
import subprocess
import sys

import pytest

from quant_assets.artifacts.bundle.archive import environment_sbom, installed_closure
from quant_assets.common.errors import ArtifactError


@pytest.fixture(scope="module")
def document():
    return json.loads(environment_sbom())


def test_it_is_cyclonedx_without_a_time_or_a_serial_number(document):
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert "serialNumber" not in document
    assert "timestamp" not in document["metadata"]
    assert document["metadata"]["component"]["name"] == "quant-assets"


def test_the_library_itself_reads_it_back(document):
    from cyclonedx.model.bom import Bom

    bom = Bom.from_json(document)
    assert {c.name for c in bom.components} == {c["name"] for c in document["components"]}


def test_the_same_environment_gives_the_same_bytes_in_every_process():
    script = (
        "import sys; from quant_assets.artifacts.bundle.archive import environment_sbom as s; "
        "sys.stdout.buffer.write(s())"
    )
    for seed in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "TZ": "Asia/Tokyo"}
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, check=True, env=environment
        )
        assert done.stdout == environment_sbom()


def test_versions_addresses_and_licences_are_those_of_the_installed_distributions(document):
    components = {c["name"]: c for c in document["components"]}
    for name in ("lightgbm", "xgboost", "onnxruntime", "numpy", "model-signing"):
        version = importlib.metadata.version(name)
        assert components[name]["version"] == version
        assert components[name]["purl"] == f"pkg:pypi/{name}@{version}"
    assert components["polars"]["licenses"] == [{"license": {"name": "MIT License"}}]
    assert components["alembic"]["licenses"] == [{"license": {"id": "MIT"}}]
    assert sum("licenses" in c for c in components.values()) > 0.9 * len(components)


def test_it_lists_what_the_platform_needs_and_not_the_tools_beside_it(document):
    names = {c["name"] for c in document["components"]}
    assert {"dagster", "mlflow", "scikit-learn", "cryptography"} <= names
    assert not {"pytest", "ruff", "mypy", "hypothesis"} & names


def test_what_needs_what_is_in_it(document):
    needs = {d["ref"].partition("@")[0]: d.get("dependsOn", []) for d in document["dependencies"]}
    assert any(ref.startswith("pkg:pypi/numpy@") for ref in needs["pkg:pypi/lightgbm"])


def test_a_distribution_that_is_not_installed_is_an_error():
    with pytest.raises(ArtifactError, match="no_such_distribution"):
        installed_closure("no_such_distribution")
