"""One MLflow database is made per session (3 s) and copied for each test; one small graph stands for the model."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from quant_assets.artifacts.bundle.signing import development_key
from quant_assets.common.home import Home
from quant_assets.gates.gate import KINDS, find_gate, gate_names
from quant_assets.gates.limits import DriftConfig, GatesConfig, limits_in_force
from quant_assets.gates.verdicts import GateReport, Verdict, judge
from quant_assets.ledgers.promotions import PromotionLedger
from quant_assets.registry.connection import connect
from quant_assets.registry.promotion import PromotionDecision, promote
from quant_assets.registry.record import TrainingRecord
from quant_assets.registry.standing import LedgerKeys, ledger_keys
from quant_assets.registry.tracking import RecordedRun, record_training

NOW = datetime(2026, 3, 2, 21, 0, tzinfo=UTC)
STRATEGY = "planted_edge"
FEATURES = ("nma_9", "rsi_14", "ret_5")
LIMITS: dict[str, dict[str, Any]] = limits_in_force(GatesConfig(), DriftConfig())
GATES = {kind: gate_names(kind) for kind in KINDS}


def graph(n_features: int = 3, element: int = TensorProto.FLOAT) -> bytes:
    """A linear model with weights 1, 2, 3, ... as an ONNX graph."""
    kind = helper.tensor_dtype_to_np_dtype(element)
    weights = helper.make_tensor("w", element, [n_features, 1], np.arange(1, n_features + 1, dtype=kind))
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMul", ["features", "w"], ["score"])],
            "linear",
            [helper.make_tensor_value_info("features", element, [None, n_features])],
            [helper.make_tensor_value_info("score", element, [None, 1])],
            [weights],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    onnx.checker.check_model(model)
    return model.SerializeToString()


def record_of(subject: str, **changes: Any) -> TrainingRecord:
    record = TrainingRecord(
        strategy=STRATEGY,
        subject=subject,
        params={"lightgbm.num_leaves": "15", "seed": "7"},
        metrics={"sharpe_annual_median": 1.6, "psr": 0.99},
        path_metrics=({"sharpe_annual": 1.5}, {"sharpe_annual": 1.7}, {"sharpe_annual": 1.6}),
        dataset_name="training_set",
        dataset_digest="d" * 64,
        feature_names=FEATURES,
        artifacts={"model.onnx": graph(), "tear_sheet.html": b"<html></html>", "ensemble.json": b"{}"},
        verdicts=reports_of(subject)[0].verdicts,
        tags={"dagster.run_id": "run-1"},
    )
    return replace(record, **changes)


def reports_of(subject: str, closed: tuple[str, ...] = ()) -> list[GateReport]:
    """One report of each kind in which every gate passes but those named."""

    def verdict(kind: str, gate: str) -> Verdict:
        rule = find_gate(gate).limit
        required = rule.required(LIMITS[kind])
        miss = (-0.5 if rule.comparison == ">=" else 0.5) if gate in closed else 0.0
        return judge(
            gate,
            subject,
            required + miss,
            required,
            comparison=rule.comparison,
            quantity="the statistic",
            remedy="a better model",
        )

    return [
        GateReport(kind, subject, LIMITS[kind], tuple(verdict(kind, g) for g in gates))  # type: ignore[arg-type]
        for kind, gates in GATES.items()
    ]


@pytest.fixture(scope="session")
def template_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    database = tmp_path_factory.mktemp("template") / "mlflow.db"
    connect(f"sqlite:///{database}", create=True)
    return database


def keys_of(folder: Path) -> LedgerKeys:
    """The development key of a folder, trusted."""
    development_key(folder)
    return ledger_keys(Home(str(folder)))


@dataclass
class Desk:
    """A tracking database, an artifact folder, a ledger and its key, of one test."""

    folder: Path
    uri: str
    ledger: PromotionLedger
    keys: LedgerKeys

    def record(self, subject: str, **changes: Any) -> RecordedRun:
        return record_training(
            self.uri, record_of(subject, **changes), artifact_root=self.folder / "artifacts"
        )

    def promote(self, subject: str, version: str, expected: str | None, **changes: Any) -> PromotionDecision:
        arguments: dict[str, Any] = {
            "strategy": STRATEGY,
            "subject": subject,
            "reports": reports_of(subject),
            "limits_in_force": LIMITS,
            "bundle_sha256": "b" * 64,
            "signing_key": "f" * 64,
            "model_version": version,
            "expected_champion": expected,
            "ledger": self.ledger,
            "keys": self.keys,
            "actor": "asset:promotion",
            "run_id": "run-1",
            "now": NOW,
        }
        return promote(self.uri, **(arguments | changes))


def desk_in(folder: Path) -> Desk:
    uri, ledger = f"sqlite:///{folder / 'mlflow.db'}", PromotionLedger(folder / "ledger.jsonl")
    return Desk(folder, uri, ledger, keys_of(folder))


@pytest.fixture
def desk(tmp_path: Path, template_database: Path) -> Desk:
    shutil.copy(template_database, tmp_path / "mlflow.db")
    return desk_in(tmp_path)


@pytest.fixture(scope="session")
def template_desk(tmp_path_factory: pytest.TempPathFactory, template_database: Path) -> Desk:
    folder = tmp_path_factory.mktemp("template_desk")
    shutil.copy(template_database, folder / "mlflow.db")
    template = desk_in(folder)
    template.record("a" * 64)
    template.record("b" * 64)
    template.promote("a" * 64, "1", None)
    return template


@pytest.fixture
def two(tmp_path: Path, template_desk: Desk) -> Desk:
    """A is champion as version 1; B is a candidate as version 2."""
    for name in ("mlflow.db", "ledger.jsonl", "ledger.jsonl.head"):
        shutil.copy(template_desk.folder / name, tmp_path / name)
    for name in ("keys", "ledger.signatures"):
        shutil.copytree(template_desk.folder / name, tmp_path / name)
    return desk_in(tmp_path)


@pytest.fixture
def killed_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make the process 'die' just before a call of MLflow's client: what came before stays, nothing after."""

    def arm(method: str) -> None:
        from mlflow import MlflowClient

        def die(*_: Any, **__: Any) -> None:
            monkeypatch.undo()
            raise KeyboardInterrupt(f"killed before {method}")

        monkeypatch.setattr(MlflowClient, method, die)

    return arm
