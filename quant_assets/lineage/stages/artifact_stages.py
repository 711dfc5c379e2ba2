"""Artifacts: one fused ONNX graph, its INT8 counterpart where that means anything, parity, runtimes, bundle."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import polars as pl
from pydantic import BaseModel, Field

from quant_assets.common.errors import ArtifactError, GateClosedError
from quant_assets.common.hashing import bytes_digest
from quant_assets.common.home import Home
from quant_assets.common.store import Table
from quant_assets.gates.limits import GatesConfig
from quant_assets.lineage.artifact import Artifact
from quant_assets.lineage.declaring import (
    Check,
    CheckResult,
    Markdown,
    Picture,
    Product,
    gate_checks,
    gates_behind,
    single,
    stage,
)

# Parity is judged on real rows; this many are enough to see a flip of 1 in 10,000 with certainty 0.9999.
MAX_PARITY_ROWS = 100_000


def real_rows(training_set: Table) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    """Feature rows of the training set, thinned evenly to at most `MAX_PARITY_ROWS`."""
    from quant_assets.datasets.training_set import feature_names_of

    stride = -(-training_set.frame.height // MAX_PARITY_ROWS)
    names = feature_names_of(training_set)
    rows: np.ndarray[tuple[int, int], np.dtype[np.float32]] = (
        training_set.frame.select(pl.col(names)).gather_every(stride).to_numpy()
    )
    return rows


@stage(group="artifacts", rederived=True, kinds=frozenset({"onnx"}))
def onnx_fp32(ensemble: Artifact, *, name: str) -> Product:
    """The whole ensemble as one float32 graph: features in, decision score out."""
    from quant_assets.artifacts.onnx.export import export_onnx
    from quant_assets.models.ensemble import Ensemble

    candidate = Ensemble.from_json(ensemble.json())
    if candidate.research_only:
        raise GateClosedError(
            f"graph of {name}",
            expected="learners that are exported with parity, and none that is marked research_only",
            found="; ".join(f"{learner}: {why}" for learner, why in candidate.research_only.items()),
            action="nothing of it is promoted: use learners that convert exactly, or take the mark off",
        )
    model = export_onnx(candidate, subject=ensemble.version, metadata={"strategy": name})
    return Product(model, {"bytes": len(model), "subject": ensemble.version})


@stage(group="artifacts", kinds=frozenset({"onnx"}))
def onnx_int8(ensemble: Artifact, training_set: Artifact, *, int8_student: bool, seed: int) -> Product:
    """The INT8 student with its FP32 original, or the reason why there is none."""
    from quant_assets.artifacts.onnx.student import student_record

    record = student_record(
        ensemble.json(),
        real_rows(training_set.table()),
        subject=ensemble.version,
        wanted=int8_student,
        seed=seed,
    )
    facts = {k: v for k, v in record.items() if isinstance(v, str | int | float) and len(str(v)) < 300}
    return Product(record, facts)


@stage(
    group="artifacts",
    kinds=frozenset({"onnx", "json"}),
    rederived=True,
    gates="parity",
    checks=(gate_checks("parity"),),
    roots=gates_behind("parity"),
)
def parity_report(
    ensemble: Artifact,
    training_set: Artifact,
    onnx_fp32: Artifact,
    onnx_int8: Artifact,
    *,
    limits: GatesConfig,
    basis: Mapping[str, Any],
) -> Product:
    """Whether each artifact decides as the model it was made from, on-threshold rows included."""
    from quant_assets.artifacts.onnx.parity import parity_report as judge
    from quant_assets.gates.evidence import verdict_table
    from quant_assets.models.ensemble import Ensemble

    report = judge(
        Ensemble.from_json(ensemble.json()),
        onnx_fp32.data(),
        onnx_int8.json(),
        subject=ensemble.version,
        rows=real_rows(training_set.table()),
        limits=limits,
    )
    return Product(report.about(basis), {"verdicts": verdict_table(report), "details": dict(report.details)})


class InferenceRun(BaseModel):
    """How much is measured: calls of each runtime by rows of a call."""

    single_row: int = Field(default=2_000, ge=1, le=100_000)
    rows_32: int = Field(default=200, ge=1, le=10_000)
    rows_1000: int = Field(default=15, ge=1, le=1_000)
    rows_100000: int = Field(default=5, ge=1, le=100)
    cold_starts: bool = True


# Measurements of this machine, which nothing in the lineage may depend on.
@stage(
    group="artifacts",
    kinds=frozenset({"onnx", "json"}),
    options=InferenceRun,
    wanted=lambda s: s.plan.reports.inference_benchmark,
)
def inference_benchmark(
    ensemble: Artifact,
    training_set: Artifact,
    onnx_fp32: Artifact,
    onnx_int8: Artifact,
    *,
    limits: GatesConfig,
    options: InferenceRun,
) -> Product:
    """Which runtime is the fastest that decides as the model does, per batch size, measured on this machine."""
    from quant_assets.artifacts.runtimes import tournament as measured
    from quant_assets.models.ensemble import Ensemble

    calls = {
        1: options.single_row, 32: options.rows_32, 1_000: options.rows_1000, 100_000: options.rows_100000,
    }  # fmt: skip
    record = measured.run_tournament(
        Ensemble.from_json(ensemble.json()),
        onnx_fp32.data(),
        onnx_int8.json(),
        subject=ensemble.version,
        rows=real_rows(training_set.table()),
        limits=limits,
        plan=measured.Plan(calls, cold_starts=options.cold_starts),
    )
    facts = {
        "winners": measured.winners(record),
        "decisions": Markdown(measured.summary(record)),
        "latency": measured.latency_table(record),
        "runtimes": measured.contestant_table(record),
        "agreement": measured.pair_table(record),
        "latency_by_batch": Picture(measured.latency_plot(record), "latency by batch size"),
        "machine": record["machine"],
    }
    return Product(record, facts)


@cache
def _sbom() -> bytes:
    from quant_assets.artifacts.bundle.archive import environment_sbom

    return environment_sbom()


def environment() -> Sequence[str]:
    """Another environment is another bill of materials, hence another bundle."""
    return [bytes_digest(_sbom())]


def payload_scan(bundle: Artifact) -> CheckResult:
    """Whether anything in the newest bundle could be executed by a loader."""
    from quant_assets.artifacts.bundle.archive import unpack
    from quant_assets.artifacts.bundle.payload_scan import payload_scan as scan

    try:
        report = scan(unpack(bundle.data()))
    except ArtifactError as error:
        return CheckResult("payload_scan", False, str(error))
    found = "; ".join(f"{f.file}: {f.what}" for f in report.findings[:3]) or "nothing found"
    return CheckResult("payload_scan", report.clean, found, facts=report.to_json())


@stage(
    group="artifacts",
    kinds=frozenset({"onnx"}),
    fresh=environment,
    checks=(
        Check(
            "payload_scan",
            single(
                "payload_scan",
                "Nothing in the bundle can be executed: no pickle, program, archive or foreign operator.",
                blocking=True,
            ),
            payload_scan,
        ),
    ),
)
def bundle(
    ensemble: Artifact, training_set: Artifact, onnx_fp32: Artifact, onnx_int8: Artifact, *, name: str
) -> Product:
    """Everything that serving needs in one archive, scanned, with the versions of everything upstream."""
    from quant_assets.artifacts.bundle.bundle import build_bundle

    made_from = {
        "ensemble": ensemble,
        "training_set": training_set,
        "onnx_fp32": onnx_fp32,
        "onnx_int8": onnx_int8,
    }
    upstream = {**training_set.table().metadata, **{k: v.version for k, v in made_from.items()}}
    archive = build_bundle(
        strategy=name,
        subject=ensemble.version,
        ensemble=ensemble.json(),
        onnx=onnx_fp32.data(),
        int8=onnx_int8.json(),
        upstream=upstream,
        sbom=_sbom(),
    )
    return Product(archive, {"bytes": len(archive), "upstream": upstream})


def signing_key_in_force(*, home: Home) -> Sequence[str]:
    """Another key is another signature."""
    from quant_assets.artifacts.bundle.signing import signing_key

    return [signing_key(home.local).fingerprint]


def signature(bundle: Artifact, bundle_signature: Artifact, *, home: Home) -> CheckResult:
    """Whether the newest bundle was signed by a trusted key, and is whole."""
    from quant_assets.artifacts.bundle.bundle import verify_bundle
    from quant_assets.artifacts.bundle.signing import trusted_keys

    try:
        verified = verify_bundle(bundle.data(), bundle_signature.data(), trusted_keys(home.local))
    except ArtifactError as error:
        return CheckResult("signature", False, str(error))
    facts = {"key": verified.fingerprint, "subject": verified.manifest.subject}
    return CheckResult("signature", True, f"signed by key {verified.fingerprint}", facts=facts)


@stage(
    group="artifacts",
    kinds=frozenset({"json"}),
    fresh=signing_key_in_force,
    checks=(
        Check(
            "signature",
            single(
                "signature", "The newest bundle was signed by a trusted key, and is whole.", blocking=True
            ),
            signature,
        ),
    ),
)
def bundle_signature(bundle: Artifact, *, home: Home) -> Product:
    """The detached signature of the bundle by this platform's key. Reused until bundle or key change."""
    from quant_assets.artifacts.bundle.bundle import inspect_bundle
    from quant_assets.artifacts.bundle.signing import sign_bundle, signing_key

    key = signing_key(home.local)
    archive = bundle.data()
    inspect_bundle(archive)
    return Product(sign_bundle(archive, key), {"key": key.fingerprint, "bundle_sha256": bundle.sha256})
