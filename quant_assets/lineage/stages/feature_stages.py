"""Features: each pack's columns for the whole panel, recomputed in one kernel pass, and the report on them all."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from quant_assets.common.home import Home
from quant_assets.common.store import Table
from quant_assets.lineage.artifact import Artifact, asset_name, by_pack
from quant_assets.lineage.declaring import Check, CheckResult, Product, single, stage
from quant_assets.lineage.facts import File, Link, Picture
from quant_assets.lineage.scope import Scope


def _kernels(_: Scope, member: str | None) -> Sequence[str]:
    from quant_assets.features.pack import declared_in, find_pack

    pack = find_pack(member or "")
    functions = [pack.kernel] if pack.cross_section is None else [pack.kernel, pack.cross_section.step]
    declared = declared_in(pack.name)
    return [*(name.partition(":")[0] for name in functions), *pack.code, *([declared] if declared else [])]


def _declaration(_: Scope, member: str | None) -> str:
    from quant_assets.features.pack import find_pack

    return find_pack(member or "").fingerprint


def _sentence(_: Scope, member: str | None) -> str:
    from quant_assets.features.pack import find_pack

    return f"Pack {member}: {find_pack(member or '').description} Causal, null while warming up."


def causality(bars: Artifact, *, member: str) -> CheckResult:
    """The proof by experiment that a pack looks at nothing but its own past."""
    from quant_assets.features.causality import prove_causal

    report = prove_causal(bars.table().frame, member)
    found = [f"{v.feature}: {v.experiment} on {v.session}" for v in report.violations]
    return CheckResult(
        "causality",
        bool(report.passed),
        f"{len(found)} violations, {len(report.unproven)} features unproven, {report.rows} bars",
        facts={"violations": found, "unproven": list(report.unproven)},
    )


def column_summary(*, value: Table, member: str) -> Mapping[str, Any]:
    """Warm-up, unit, mean and spread of each feature."""
    from quant_assets.features.pack import find_pack

    pack = find_pack(member)
    values = value.frame.select(pack.names)
    summary = pl.DataFrame(
        {
            "feature": pack.names,
            "warm_up": [f.warm_up for f in pack.features],
            "unit": [f.unit for f in pack.features],
            "mean": [values[n].mean() for n in pack.names],
            "sd": [values[n].std() for n in pack.names],
            "masked": [values[n].null_count() for n in pack.names],
        }
    )
    return {**value.metadata, "features": summary}


@stage(
    name="features",
    group="features",
    owner="universe",
    team="team:research",
    kinds=frozenset({"numba", "polars"}),
    members=lambda s: {asset_name(pack): pack for pack in s.packs},
    roots=_kernels,
    identity=_declaration,
    describe=column_summary,
    sentence=_sentence,
    checks=(
        Check(
            "causality",
            single(
                "causality", "Changing later bars, or rescaling history, changes no feature.", blocking=True
            ),
            causality,
        ),
    ),
)
def pack_features(bars: Artifact, *, member: str) -> Product:
    """One pack's features of the whole panel."""
    from quant_assets.features import compute
    from quant_assets.features.pack import find_pack

    identity = {"pack": member, "pack_fingerprint": find_pack(member).fingerprint}
    return Product(Table(compute(bars.table().frame, pack=member), identity))


@stage(group="features", owner="universe", team="team:research", kinds=frozenset({"html"}))
def feature_report(
    features: Mapping[str, Artifact], *, name: str, packs: Sequence[str], home: Home
) -> Product:
    """Coverage, distributions, dead and redundant features, clusters and stationarity of every pack."""
    from quant_assets.common.pages import publish_page
    from quant_assets.features import report

    described = report.feature_report(
        {pack: table.frame for pack, table in by_pack(features, packs).items()}, universe=name
    )
    plots = report.report_plots(described)
    html = report.render_html(described, plots)
    file = publish_page(home.path, f"{name}-features", html)
    facts = {
        "file": File(file),
        "open": Link(file.as_uri()),
        "recommendations": described.recommendations,
        "coverage": described.coverage,
        "distributions": described.summary,
        "clusters": described.clusters,
        "redundant_pairs": described.redundant,
        "stationarity": described.stationarity,
        **{f"{title}_plot": Picture(data_uri, title) for title, data_uri in plots.items()},
    }
    return Product(html, facts)
