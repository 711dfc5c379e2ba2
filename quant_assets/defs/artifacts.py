"""Artifacts: one fused ONNX graph, its INT8 counterpart where that means anything, parity, and the bundle."""

import dagster as dg
import numpy as np
import polars as pl

from quant_assets.common.errors import ArtifactError
from quant_assets.common.hashing import bytes_digest
from quant_assets.common.settings import StrategyConfig
from quant_assets.common.store import Table
from quant_assets.datasets.training_set import feature_names_of
from quant_assets.defs.gate_checks import gates_of
from quant_assets.defs.guards import Product, StoredResult, code_version, produce, stage_options, to_metadata
from quant_assets.defs.resources import Home
from quant_assets.defs.storage import Artifact, current
from quant_assets.gates.gate import gate_names
from quant_assets.gates.limits import GatesConfig

LIBRARIES = ("onnx", "onnxmltools", "onnxruntime", "skl2onnx")

# Parity is judged on real rows; this many are enough to see a flip of 1 in 10,000 with certainty 0.9999.
MAX_PARITY_ROWS = 100_000


def build(
    strategy: StrategyConfig, gates: GatesConfig
) -> list[dg.AssetsDefinition | dg.AssetChecksDefinition]:
    """Assets and checks of one strategy's artifacts stage."""
    name = strategy.name
    limits = gates.for_strategy(strategy.gates)
    common = stage_options("artifacts", strategy.owner)
    ensemble_in = dg.AssetIn(key=[name, "ensemble"])
    training_set_in = dg.AssetIn(key=[name, "training_set"])

    @dg.asset(
        key=[name, "onnx_fp32"],
        ins={"ensemble": ensemble_in},
        kinds={"onnx"},
        code_version=code_version(["quant_assets.artifacts"], LIBRARIES),
        **common,
    )
    def onnx_fp32(context: dg.AssetExecutionContext, home: Home, ensemble: Artifact) -> StoredResult:
        """The whole ensemble as one float32 graph: features in, decision score out."""
        from quant_assets.artifacts.onnx.export import export_onnx
        from quant_assets.models.ensemble import Ensemble

        def compute() -> Product:
            model = export_onnx(
                Ensemble.from_json(ensemble.json()), subject=ensemble.version, metadata={"strategy": name}
            )
            return Product(model, {"bytes": len(model), "subject": ensemble.version})

        return produce(context, home, compute, inputs={"ensemble": ensemble})

    @dg.asset(
        key=[name, "onnx_int8"],
        ins={"ensemble": ensemble_in, "training_set": training_set_in},
        kinds={"onnx"},
        code_version=code_version(
            ["quant_assets.artifacts"],
            (*LIBRARIES, "scikit-learn"),
            strategy.artifacts,
            strategy.seed,
        ),
        **common,
    )
    def onnx_int8(
        context: dg.AssetExecutionContext, home: Home, ensemble: Artifact, training_set: Artifact
    ) -> StoredResult:
        """The INT8 student with its FP32 original, or the reason why there is none."""
        from quant_assets.artifacts.onnx.student import student_record

        def compute() -> Product:
            record = student_record(
                ensemble.json(),
                real_rows(training_set.table()),
                subject=ensemble.version,
                wanted=strategy.artifacts.int8_student,
                seed=strategy.seed,
            )
            facts = {
                k: v for k, v in record.items() if isinstance(v, str | int | float) and len(str(v)) < 300
            }
            return Product(record, facts)

        return produce(context, home, compute, inputs={"ensemble": ensemble, "training_set": training_set})

    @dg.asset(
        key=[name, "parity_report"],
        ins={
            "ensemble": ensemble_in,
            "training_set": training_set_in,
            "onnx_fp32": dg.AssetIn(key=[name, "onnx_fp32"]),
            "onnx_int8": dg.AssetIn(key=[name, "onnx_int8"]),
        },
        kinds={"onnx", "json"},
        code_version=code_version(["quant_assets.artifacts", "quant_assets.gates"], LIBRARIES, limits),
        **common,
    )
    def parity_report(
        context: dg.AssetExecutionContext,
        home: Home,
        ensemble: Artifact,
        training_set: Artifact,
        onnx_fp32: Artifact,
        onnx_int8: Artifact,
    ) -> StoredResult:
        """Whether each artifact decides as the model it was made from, on-threshold rows included."""
        from quant_assets.artifacts.onnx.parity import parity_report as judge
        from quant_assets.gates.evidence import verdict_table
        from quant_assets.models.ensemble import Ensemble

        def compute() -> Product:
            report = judge(
                Ensemble.from_json(ensemble.json()),
                onnx_fp32.data(),
                onnx_int8.json(),
                subject=ensemble.version,
                rows=real_rows(training_set.table()),
                limits=limits,
            )
            return Product(
                report.to_json(), {"verdicts": verdict_table(report), "details": dict(report.details)}
            )

        inputs = {
            "ensemble": ensemble,
            "training_set": training_set,
            "onnx_fp32": onnx_fp32,
            "onnx_int8": onnx_int8,
        }
        return produce(context, home, compute, inputs=inputs)

    @dg.asset(
        key=[name, "bundle"],
        ins={
            "ensemble": ensemble_in,
            "training_set": training_set_in,
            "onnx_fp32": dg.AssetIn(key=[name, "onnx_fp32"]),
            "onnx_int8": dg.AssetIn(key=[name, "onnx_int8"]),
        },
        kinds={"onnx"},
        code_version=code_version(["quant_assets.artifacts"], ("cyclonedx-python-lib", "picklescan")),
        **common,
    )
    def bundle(
        context: dg.AssetExecutionContext,
        home: Home,
        ensemble: Artifact,
        training_set: Artifact,
        onnx_fp32: Artifact,
        onnx_int8: Artifact,
    ) -> StoredResult:
        """Everything that serving needs in one archive, scanned, with the versions of everything upstream."""
        from quant_assets.artifacts.bundle.bundle import build_bundle
        from quant_assets.artifacts.bundle.sbom import environment_sbom

        sbom = environment_sbom()
        inputs = {
            "ensemble": ensemble,
            "training_set": training_set,
            "onnx_fp32": onnx_fp32,
            "onnx_int8": onnx_int8,
        }

        def compute() -> Product:
            upstream = {**training_set.table().metadata, **{k: v.version for k, v in inputs.items()}}
            archive = build_bundle(
                strategy=name,
                subject=ensemble.version,
                ensemble=ensemble.json(),
                onnx=onnx_fp32.data(),
                int8=onnx_int8.json(),
                upstream=upstream,
                sbom=sbom,
            )
            return Product(archive, {"bytes": len(archive), "upstream": upstream})

        # Another environment is another bill of materials, hence another bundle.
        return produce(context, home, compute, inputs=inputs, extra=[bytes_digest(sbom)])

    @dg.asset(
        key=[name, "bundle_signature"],
        ins={"bundle": dg.AssetIn(key=[name, "bundle"])},
        kinds={"json"},
        code_version=code_version(["quant_assets.artifacts.bundle.signing"], ("model-signing",)),
        **common,
    )
    def bundle_signature(context: dg.AssetExecutionContext, home: Home, bundle: Artifact) -> StoredResult:
        """The detached signature of the bundle by this platform's key. Reused until bundle or key change."""
        from quant_assets.artifacts.bundle.bundle import inspect_bundle
        from quant_assets.artifacts.bundle.signing import sign_bundle, signing_key

        key = signing_key(home.path)

        def compute() -> Product:
            archive = bundle.data()
            inspect_bundle(archive)
            facts = {"key": key.fingerprint, "bundle_sha256": bundle.sha256}
            return Product(sign_bundle(archive, key), facts)

        return produce(context, home, compute, inputs={"bundle": bundle}, extra=[key.fingerprint])

    @dg.asset_check(
        asset=bundle,
        name="payload_scan",
        blocking=True,
        description="Nothing in the bundle can be executed: no pickle, program, archive or foreign operator.",
    )
    def payload_scan(context: dg.AssetCheckExecutionContext, home: Home) -> dg.AssetCheckResult:
        from quant_assets.artifacts.bundle.archive import unpack
        from quant_assets.artifacts.bundle.payload_scan import payload_scan as scan

        try:
            report = scan(unpack(current(context.instance, bundle.key, home).data()))
        except ArtifactError as error:
            return dg.AssetCheckResult(passed=False, description=str(error))
        found = "; ".join(f"{f.file}: {f.what}" for f in report.findings[:3]) or "nothing found"
        return dg.AssetCheckResult(
            passed=report.clean, description=found, metadata=to_metadata(report.to_json())
        )

    @dg.asset_check(
        asset=bundle_signature,
        name="signature",
        blocking=True,
        description="The newest bundle was signed by a trusted key, and is whole.",
    )
    def signature(context: dg.AssetCheckExecutionContext, home: Home) -> dg.AssetCheckResult:
        from quant_assets.artifacts.bundle.bundle import verify_bundle
        from quant_assets.artifacts.bundle.signing import trusted_keys

        archive = current(context.instance, bundle.key, home).data()
        detached = current(context.instance, bundle_signature.key, home).data()
        try:
            verified = verify_bundle(archive, detached, trusted_keys(home.path))
        except ArtifactError as error:
            return dg.AssetCheckResult(passed=False, description=str(error))
        facts = {"key": verified.fingerprint, "subject": verified.manifest.subject}
        return dg.AssetCheckResult(
            passed=True, description=f"signed by key {verified.fingerprint}", metadata=to_metadata(facts)
        )

    checks = gates_of(parity_report.key, gate_names("parity"), f"{name}__parity_gates")
    return [onnx_fp32, onnx_int8, parity_report, bundle, bundle_signature, checks, payload_scan, signature]


def real_rows(training_set: Table) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    """Feature rows of the training set, thinned evenly to at most `MAX_PARITY_ROWS`."""
    stride = -(-training_set.frame.height // MAX_PARITY_ROWS)
    names = feature_names_of(training_set)
    rows: np.ndarray[tuple[int, int], np.dtype[np.float32]] = (
        training_set.frame.select(pl.col(names)).gather_every(stride).to_numpy()
    )
    return rows
