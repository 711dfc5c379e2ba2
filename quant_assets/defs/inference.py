"""The runtime tournament: measurements of this machine, which nothing in the lineage may depend on."""

import dagster as dg
from pydantic import Field

from quant_assets.common.hashing import json_digest
from quant_assets.common.settings import StrategyConfig
from quant_assets.defs.artifacts import LIBRARIES, real_rows
from quant_assets.defs.guards import (
    Product,
    StoredResult,
    code_version,
    plot_metadata,
    produce,
    stage_options,
)
from quant_assets.defs.resources import Home
from quant_assets.defs.storage import Artifact
from quant_assets.gates.limits import GatesConfig


class InferenceRun(dg.Config):
    """How much is measured: calls of each runtime by rows of a call."""

    single_row: int = Field(default=2_000, ge=1, le=100_000)
    rows_32: int = Field(default=200, ge=1, le=10_000)
    rows_1000: int = Field(default=15, ge=1, le=1_000)
    rows_100000: int = Field(default=5, ge=1, le=100)
    cold_starts: bool = True


def build(strategy: StrategyConfig, gates: GatesConfig) -> list[dg.AssetsDefinition]:
    """The tournament of one strategy, if it wants one."""
    if not strategy.reports.inference_benchmark:
        return []
    name = strategy.name
    limits = gates.for_strategy(strategy.gates)

    @dg.asset(
        key=[name, "inference_benchmark"],
        ins={
            "ensemble": dg.AssetIn(key=[name, "ensemble"]),
            "training_set": dg.AssetIn(key=[name, "training_set"]),
            "onnx_fp32": dg.AssetIn(key=[name, "onnx_fp32"]),
            "onnx_int8": dg.AssetIn(key=[name, "onnx_int8"]),
        },
        kinds={"onnx", "json"},
        code_version=code_version(
            ["quant_assets.artifacts"], (*LIBRARIES, "lightgbm", "xgboost", "matplotlib"), limits
        ),
        **stage_options("artifacts", strategy.owner),
    )
    def inference_benchmark(
        context: dg.AssetExecutionContext,
        home: Home,
        config: InferenceRun,
        ensemble: Artifact,
        training_set: Artifact,
        onnx_fp32: Artifact,
        onnx_int8: Artifact,
    ) -> StoredResult:
        """Which runtime is the fastest that decides as the model does, per batch size, measured on this machine."""
        from quant_assets.artifacts.runtimes.tournament import (
            Plan,
            contestant_table,
            latency_plot,
            latency_table,
            pair_table,
            run_tournament,
            summary,
            winners,
        )
        from quant_assets.models.ensemble import Ensemble

        calls = {
            1: config.single_row, 32: config.rows_32, 1_000: config.rows_1000, 100_000: config.rows_100000,
        }  # fmt: skip

        def compute() -> Product:
            record = run_tournament(
                Ensemble.from_json(ensemble.json()),
                onnx_fp32.data(),
                onnx_int8.json(),
                subject=ensemble.version,
                rows=real_rows(training_set.table()),
                limits=limits,
                plan=Plan(calls, cold_starts=config.cold_starts),
            )
            facts = {
                "winners": winners(record),
                "decisions": dg.MetadataValue.md(summary(record)),
                "latency": latency_table(record),
                "runtimes": contestant_table(record),
                "agreement": pair_table(record),
                "latency_by_batch": plot_metadata(latency_plot(record), "latency by batch size"),
                "machine": record["machine"],
            }
            return Product(record, facts)

        inputs = {
            "ensemble": ensemble,
            "training_set": training_set,
            "onnx_fp32": onnx_fp32,
            "onnx_int8": onnx_int8,
        }
        return produce(context, home, compute, inputs=inputs, extra=[json_digest(config.model_dump())])

    return [inference_benchmark]
