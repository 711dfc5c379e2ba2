"""What really runs when an asset is made is in its closure: seen by a profiler, not by the reader of sources."""

import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import quant_assets
from quant_assets.common.home import Home
from quant_assets.common.provenance import PLUMBING
from quant_assets.lineage import notebook
from quant_assets.lineage.graph import Lineage, Node, computed
from quant_assets_tests.e2e.lineage import Lineage as Small

PACKAGE = Path(quant_assets.__file__).parent
# Says what there is (counted by the identity of a pack and the limits in force), or hands on what the
# orchestrator hands on too, or says where things are kept: nothing of it shapes a value beyond what it is asked for.
DECLARATIONS = (
    "quant_assets.features.catalogue.", "quant_assets.gates.catalogue.", "quant_assets.market.rules.catalogue.",
    "quant_assets.common.lazy", "quant_assets.common.home", "quant_assets.common.configuration",
    "quant_assets.common.places", "quant_assets.common.plugins",
    "quant_assets.lineage.",
)  # fmt: skip
# The idea of a trial is its code versions: naming it asks the registry of packs which there are.
# The basis of a report names the desk's gates, with a digest of each one's code: it counts by its values.
ASKED_FOR_THE_IDEA = {
    "quant_assets.features.pack:find_pack", "quant_assets.features.pack:packs",
    "quant_assets.gates.desk_gates:in_identity",
}  # fmt: skip


def module_of(file: str) -> str:
    parts = Path(file).relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.drill
def test_every_function_of_the_house_that_runs_is_in_the_closure_of_what_it_makes(
    built: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missed: dict[str, set[str]] = {}

    def watched(lineage: Lineage, node: Node, artifacts: Any, effects: Any) -> Any:
        called: set[tuple[str, str]] = set()

        def note(frame: FrameType, event: str, _: object) -> None:
            code = frame.f_code
            if (
                event == "call"
                and code.co_filename.startswith(f"{PACKAGE}/")
                and code.co_filename.endswith(".py")
                and code.co_name != "<module>"
            ):
                called.add((code.co_filename, code.co_qualname.partition(".")[0]))

        threading.setprofile(note)
        sys.setprofile(note)
        try:
            # Counting comes after the value, as storing does, and shapes nothing of it.
            uncounted = replace(node, stage=replace(node.stage, counts=None))
            return computed(lineage, uncounted, artifacts, effects)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
            held = {*node.closure.modules, *PLUMBING}
            for file, name in called:
                module = module_of(file)
                known = module in held or f"{module}:{name}" in node.closure.definitions
                declared = module.startswith(DECLARATIONS) or f"{module}:{name}" in ASKED_FOR_THE_IDEA
                if not known and not declared:
                    missed.setdefault(node.name, set()).add(f"{module}:{name}")

    monkeypatch.setattr(notebook, "computed", watched)
    upto = ("verdicts", "tear_sheet", "leakage_report", "feature_report", "bundle_signature")
    notebook.run("noise", built.settings, upto, home=Home(str(tmp_path)), n_jobs=1)
    assert missed == {}
