"""What the record of a training is made from: stored artifacts, and what the steps behind them took."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import dagster as dg

from quant_assets.defs.guards import RESOURCES_PREFIX
from quant_assets.defs.storage import Artifact, latest_event

if TYPE_CHECKING:
    from quant_assets.registry.record import CandidateEvidence

RECORD_CODE = ("quant_assets.registry",)


def candidate_evidence(inputs: Mapping[str, Artifact], learners: Sequence[str]) -> "CandidateEvidence":
    """The inputs of ``training_record``, read."""
    from quant_assets.registry.champion import BUNDLE_FILE, SIGNATURE_FILE
    from quant_assets.registry.record import CandidateEvidence

    ensemble = inputs["ensemble"]
    return CandidateEvidence(
        training_set=inputs["training_set"].table(),
        training_set_version=inputs["training_set"].version,
        ensemble=ensemble.json(),
        base_learners={learner: inputs[learner].json() for learner in learners},
        predictions=inputs["cpcv_predictions"].table(),
        paths=inputs["cpcv_paths"].table(),
        onnx=inputs["onnx_fp32"].data(),
        files={
            "ensemble.json": ensemble.store.get(ensemble.sha256),
            "tear_sheet.html": inputs["tear_sheet"].text().encode(),
            BUNDLE_FILE: inputs["bundle"].data(),
            SIGNATURE_FILE: inputs["bundle_signature"].data(),
        },
    )


def training_resources(
    context: dg.AssetExecutionContext, strategy: str, steps: Sequence[str]
) -> dict[str, float]:
    """What the steps that fitted something took of the machine, from their events: ``<step>/<quantity>``."""
    found: dict[str, float] = {}
    for step in steps:
        event = latest_event(context.instance, dg.AssetKey([strategy, step]), None, context.run.run_id)
        for name, value in (event.metadata if event else {}).items():
            if name.startswith(RESOURCES_PREFIX) and isinstance(value.value, int | float):
                found[f"{step}/{name.removeprefix(RESOURCES_PREFIX)}"] = float(value.value)
    return found
