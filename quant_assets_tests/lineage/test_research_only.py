"""A strategy with a learner for research only has no graph: its stage is a closed gate that says why."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from quant_assets.common.errors import GateClosedError
from quant_assets.common.settings import ModelsConfig
from quant_assets.lineage.stages.artifact_stages import onnx_fp32
from quant_assets.models.ensemble import Ensemble, fit_ensemble
from quant_assets.models.graph_learner import GraphDocument
from quant_assets.models.learners import from_text
from quant_assets_tests.models.training_frames import FEATURES, training_frame

DESK = "quant_assets_tests.models.desk_learners:"


def candidate(**ridge: bool) -> SimpleNamespace:
    models = ModelsConfig.model_validate(
        {
            "lightgbm": None,
            "xgboost": None,
            "stacker": {"inner_folds": 2},
            "custom": {"ridge": {"use": DESK + "ridge", **ridge}},
        }
    )
    made = fit_ensemble(training_frame(60), FEATURES, models, seed=1, embargo_sessions=2, recipe="r")
    return SimpleNamespace(json=lambda: json.loads(json.dumps(made.to_json())), version="v")


def test_its_graph_is_a_closed_gate_that_names_the_learner() -> None:
    with pytest.raises(GateClosedError, match="ridge: marked for research only"):
        onnx_fp32(candidate(research_only=True), name="own")
    assert onnx_fp32(candidate(), name="own").facts["subject"] == "v"


def test_the_reports_say_so() -> None:
    said = Ensemble.from_json(candidate(research_only=True).json()).research_sentence
    assert said.startswith("For research only (ridge: marked for research only)")
    assert "no promotion whatever the verdicts" in said
    assert Ensemble.from_json(candidate().json()).research_sentence == ""


def test_whoever_needs_a_graph_that_is_not_there_meets_a_closed_gate_and_nothing_breaks() -> None:
    text = GraphDocument("graph:number", ("a",), b"", "no converter for it").to_text()
    learner = from_text("own", text)
    with pytest.raises(GateClosedError, match="found none: no converter for it"):
        learner.predict(np.zeros((2, 1), dtype=np.float32))
