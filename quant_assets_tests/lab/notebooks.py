"""The notebooks of the docs: run, and written with what they show.

``python -m quant_assets_tests.lab.notebooks`` runs them again, after something that they show has changed.
"""

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "infra" / "docs" / "notebooks"


def executed(file: Path, home: Path) -> nbformat.NotebookNode:
    """A notebook, run from the checkout's folder with a home of its own. The first cell that fails raises."""
    notebook = nbformat.read(file, as_version=4)
    environment = {**os.environ, "QUANT_ASSETS_HOME": str(home), "PYTHONPATH": str(ROOT)}
    environment.pop("QUANT_ASSETS_CONFIGS", None)
    client = NotebookClient(notebook, timeout=600, kernel_name="python3")
    client.execute(cwd=str(ROOT), env=environment)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when, to the microsecond
    notebook.metadata.pop("language_info", None)
    return placed(notebook, {str(home): "~/my_desk/.quant_assets", str(ROOT): "~/my_desk"})


def placed(notebook: nbformat.NotebookNode, folders: Mapping[str, str]) -> nbformat.NotebookNode:
    """The notebook, as if it had been run in another folder."""
    text = nbformat.writes(notebook)
    for here, there in folders.items():
        text = text.replace(here, there)
    return nbformat.reads(text, as_version=4)


def shown(notebook: nbformat.NotebookNode) -> list[str]:
    """What its cells show as text, without numbers: those of another machine may differ in the last digit."""
    texts = [
        output.get("data", {}).get("text/plain", output.get("text", ""))
        for cell in notebook.cells
        for output in cell.get("outputs", [])
    ]
    return [re.sub(r"[-+]?\d[\d.,]*", "#", text) for text in texts]


def main() -> None:
    """Run every notebook and keep what it shows."""
    for file in sorted(NOTEBOOKS.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as home:
            nbformat.write(executed(file, Path(home)), file)


if __name__ == "__main__":
    main()
