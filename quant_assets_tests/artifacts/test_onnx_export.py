import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from quant_assets.artifacts.onnx.export import export_onnx
from quant_assets.artifacts.onnx.scoring import metadata_of, open_session, score
from quant_assets.common.errors import ArtifactError
from quant_assets.common.hashing import bytes_digest, canonical_json
from quant_assets.common.settings import CatBoostConfig, LightGBMConfig
from quant_assets.models.ensemble import Ensemble, fit_ensemble
from quant_assets_tests.artifacts.conftest import SUBJECT
from quant_assets_tests.models.training_frames import FEATURES, SMALL_MODELS, training_frame


def test_the_graph_is_one_file_with_the_promised_opsets_inputs_and_outputs(graph):
    model = onnx.load_from_string(graph)
    onnx.checker.check_model(model, full_check=True)
    assert {o.domain: o.version for o in model.opset_import} == {"": 17, "ai.onnx.ml": 3}
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"features": ["N", 8], "score": ["N", 1], "base": ["N", 2]}
    assert [n.op_type for n in model.graph.node].count("TreeEnsembleRegressor") == 2


def test_the_graph_says_whose_it_is(graph):
    facts = metadata_of(open_session(graph))
    assert facts == {
        "subject": SUBJECT,
        "recipe": "r1",
        "producer": "quant_assets",
        "score_unit": "forward_return",
        "strategy": "small",
        "feature_names": json.dumps(list(FEATURES)),
    }
    assert onnx.load_from_string(graph).producer_name == "quant_assets"


def test_metadata_cannot_overwrite_the_subject(ensemble):
    with pytest.raises(ArtifactError, match="found subject"):
        export_onnx(ensemble, subject=SUBJECT, metadata={"subject": "another"})


def test_the_same_ensemble_gives_the_same_bytes_here_and_in_another_process(ensemble, graph, tmp_path):
    assert export_onnx(ensemble, subject=SUBJECT, metadata={"strategy": "small"}) == graph
    stored = tmp_path / "ensemble.json"
    stored.write_bytes(canonical_json(ensemble.to_json()))
    code = (
        "import json, pathlib\n"
        "from quant_assets.artifacts.onnx.export import export_onnx\n"
        "from quant_assets.common.hashing import bytes_digest\n"
        "from quant_assets.models.ensemble import Ensemble\n"
        f"ensemble = Ensemble.from_json(json.loads(pathlib.Path({str(stored)!r}).read_text()))\n"
        f"graph = export_onnx(ensemble, subject={SUBJECT!r}, metadata={{'strategy': 'small'}})\n"
        "print(bytes_digest(graph))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == bytes_digest(graph)


def test_base_output_holds_each_learners_own_prediction(ensemble, graph, training_data):
    base = open_session(graph).run(["base"], {"features": training_data.features})[0]
    expected = ensemble.base_predictions(training_data.features)
    assert base == pytest.approx(expected, abs=1e-6 * expected.std())


def single(name, **changes):
    only = {n: None for n in ("lightgbm", "xgboost") if n != name}
    config = getattr(SMALL_MODELS, name).model_copy(update=changes)
    models = SMALL_MODELS.model_copy(update={**only, name: config})
    return fit_ensemble(training_frame(), FEATURES, models, seed=7, embargo_sessions=2, recipe="r")


@pytest.mark.parametrize(
    ("name", "changes"),
    [("lightgbm", {}), ("lightgbm", {"objective": "huber"}), ("lightgbm", {"min_data_in_leaf": 400}),
     ("xgboost", {}), ("xgboost", {"max_depth": 1})],
)  # fmt: skip
def test_every_learner_and_objective_of_the_whitelist_converts_exactly(name, changes, training_data):
    ensemble = single(name, **changes)
    scores = score(open_session(export_onnx(ensemble, subject="s")), training_data.features)
    expected = ensemble.predict(training_data.features)
    assert np.abs(scores - expected).max() <= 1e-5 * expected.std()


def test_a_model_without_a_single_split_converts_too(constant_ensemble, training_data):
    scores = score(open_session(export_onnx(constant_ensemble, subject="s")), training_data.features)
    assert scores == pytest.approx(constant_ensemble.predict(training_data.features), rel=1e-5)


def test_catboost_joins_the_graph_where_it_is_installed(training_data):
    models = SMALL_MODELS.model_copy(
        update={
            "catboost": CatBoostConfig(n_estimators=8, depth=3),
            "lightgbm": LightGBMConfig(n_estimators=2),
        }
    )
    assert models.learners == ("lightgbm", "xgboost", "catboost")
    if importlib.util.find_spec("catboost") is None:
        models = models.model_copy(update={"catboost": None})
    ensemble = fit_ensemble(training_frame(), FEATURES, models, seed=7, embargo_sessions=2, recipe="r")
    again = Ensemble.from_json(ensemble.to_json())
    graph = export_onnx(again, subject="s")
    assert graph == export_onnx(ensemble, subject="s")
    expected = ensemble.predict(training_data.features)
    scores = score(open_session(graph), training_data.features)
    assert np.abs(scores - expected).max() <= 1e-5 * expected.std()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_graph_has_no_score_for_a_row_without_all_of_its_features(graph, training_data, value):
    session = open_session(graph)
    for column in range(len(FEATURES)):
        rows = training_data.features[:9].copy()
        expected = score(session, rows)
        rows[4, column] = value
        scores = score(session, rows)
        assert np.isnan(scores).tolist() == [n == 4 for n in range(9)]
        assert np.delete(scores, 4).tolist() == np.delete(expected, 4).tolist()
