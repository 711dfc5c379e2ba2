"""Features and datasets: each pack over the whole panel, labels with their times, the training set, one report."""

import json
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import polars as pl

from quant_assets.common.home import Home
from quant_assets.common.label_settings import LabelConfig
from quant_assets.common.listing_settings import DELISTING_RETURN
from quant_assets.common.settings import DelistingConfig
from quant_assets.common.store import Table
from quant_assets.lineage.artifact import Artifact, asset_name, by_pack
from quant_assets.lineage.declaring import (
    Check,
    CheckResult,
    CheckSpec,
    File,
    Link,
    Picture,
    Product,
    single,
    stage,
)
from quant_assets.lineage.scope import Scope, SessionRange

# --------------------------------------------------------------------------------------------------- features


def _kernels(_: Scope, member: str | None) -> Sequence[str]:
    from quant_assets.features.pack import declared_in, find_pack

    pack = find_pack(member or "")
    declared = declared_in(pack.name)
    return [*pack.roots, *([declared] if declared else [])]


def _declaration(_: Scope, member: str | None) -> str:
    from quant_assets.features.pack import find_pack

    return find_pack(member or "").fingerprint


def _sentence(_: Scope, member: str | None) -> str:
    from quant_assets.features.pack import find_pack

    pack = find_pack(member or "")
    named = "" if pack.name == member else f" ({member})"
    return f"Pack {pack.name}{named}: {pack.description} Causal, null while warming up."


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
    rederived=True,
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
    from quant_assets.features import feature_report as report

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


# --------------------------------------------------------------------------------------------------- datasets


def _of_the_label(scope: Scope, _: str | None) -> Sequence[str]:
    """What a label names: a function of the desk's own, the rule of a meta-label, the pack whose feature is one."""
    label = scope.plan.label
    if label.plugin is not None:
        return [label.plugin.reference]
    if label.kind != "meta":
        return []
    options = label.settings
    return [options.rule.reference] if options.rule is not None else _kernels(scope, options.feature.pack)


def _label_identity(scope: Scope, _: str | None) -> str:
    label = scope.plan.label
    if label.plugin is not None:
        return label.plugin.digest
    if label.kind != "meta":
        return label.kind
    options = label.settings
    return options.rule.digest if options.rule is not None else _declaration(scope, options.feature.pack)


def _proven_if_own(scope: Scope) -> Sequence[CheckSpec]:
    if scope.plan.label.plugin is None:
        return ()
    said = "Changing bars after a label's own t1 changes no target; a label is known when it says so."
    return (CheckSpec("label_horizon", said, blocking=True),)


def label_horizon(
    bars: Artifact, *, label: LabelConfig, sessions: SessionRange, delisting: DelistingConfig
) -> Sequence[CheckResult]:
    """The proof by experiment that a desk's own label ends when it says so, so that purging sees all of it."""
    if label.plugin is None:
        return ()
    from quant_assets.datasets.custom_labels import raw_labels
    from quant_assets.datasets.label_proof import prove_labels
    from quant_assets.market.calendar import session_times

    times = session_times(*sessions)
    report = prove_labels(lambda b: raw_labels(b, times, label, delisting), bars.table().frame, times)
    found = [str(violation) for violation in report.violations]
    said = f"{label.kind}: {'; '.join(found) or f'{report.compared} labels compared, none moved'}"
    facts = {"violations": found, "labels": report.rows, "compared": report.compared}
    return (CheckResult("label_horizon", bool(report.passed), said, facts=facts),)


@stage(
    group="datasets",
    rederived=True,
    kinds=frozenset({"polars"}),
    roots=_of_the_label,
    identity=_label_identity,
    checks=(Check("label_horizon", _proven_if_own, label_horizon),),
)
def labels(
    bars: Artifact, *, label: LabelConfig, sessions: SessionRange, delisting: DelistingConfig
) -> Product:
    """What followed each decision, entered at the next open, with the times at which it starts, ends and is known."""
    from quant_assets.datasets.label_kinds import make_labels
    from quant_assets.market.calendar import session_times

    panel = bars.table().frame
    horizon = label.horizon_sessions
    frame = make_labels(panel, session_times(*sessions), label, delisting)
    facts = {
        "kind": label.kind,
        "horizon_sessions": horizon,
        "return_of_a_name_that_ended": delisting.final_return,
        "names_with_a_return_of_their_own": sum(
            panel[name].count() for name in panel.columns if name == DELISTING_RETURN
        ),
        "mean_return": frame["forward_return"].mean(),
        "sd_return": frame["forward_return"].std(),
        **({"mean_target": frame["target"].mean()} if "target" in frame.columns else {}),
        "bars_without_label": panel.height - frame.height,
    }
    return Product(Table(frame, {"horizon_sessions": str(horizon)}), facts)


def training_rows(*, value: Table) -> Mapping[str, Any]:
    """The manifest, what was dropped, and rows per session over time."""
    from quant_assets.common.pages import figure_png, new_figure, png_data_uri

    counts = value.frame.group_by("session").len().sort("session")
    figure, axes = new_figure(7.0, 2.2)
    axes.plot(counts["session"].to_numpy(), counts["len"].to_numpy(), drawstyle="steps-post")
    axes.set_ylabel("rows per session")
    axes.set_ylim(bottom=0)
    return {
        "manifest": dict(value.metadata),
        "rows_dropped_masked": int(value.metadata["rows_dropped_masked"]),
        "rows_dropped_without_features": int(value.metadata["rows_dropped_without_features"]),
        "rows_per_session": Picture(png_data_uri(figure_png(figure)), "rows"),
    }


@stage(group="datasets", rederived=True, kinds=frozenset({"polars"}), describe=training_rows)
def training_set(
    bars: Artifact,
    labels: Artifact,
    features: Mapping[str, Artifact],
    member_rows: Artifact | None = None,
    *,
    packs: Sequence[str],
    label: LabelConfig,
    holdout_sessions: int,
) -> Product:
    """Complete rows of every pack's features, labels known before the holdout, and what made them."""
    from quant_assets.datasets.training_set import assemble_training_set, training_known_by
    from quant_assets.features.pack import join_packs, joined_names

    tables = by_pack(features, packs)
    table = assemble_training_set(
        join_packs({pack: made.frame for pack, made in tables.items()}),
        labels.table().frame,
        joined_names(packs),
        known_by=training_known_by(bars.table().frame, holdout_sessions),
        manifest={
            "bars": bars.version,
            "labels": labels.version,
            "horizon_sessions": str(label.horizon_sessions),
            "packs": json.dumps(list(packs)),
            **{name: artifact.version for name, artifact in features.items()},
            **({"member_rows": member_rows.version} if member_rows else {}),
            **{f"{p}.fingerprint": made.metadata["pack_fingerprint"] for p, made in tables.items()},
        },
        members=member_rows.table().frame if member_rows else None,
    )
    return Product(table)


@stage(group="datasets", rederived=True, kinds=frozenset({"polars"}))
def scored_rows(
    bars: Artifact,
    features: Mapping[str, Artifact],
    training_set: Artifact,
    member_rows: Artifact | None = None,
    *,
    packs: Sequence[str],
) -> Product:
    """Every row of the training window that could be decided on at its close, whatever came of it."""
    from quant_assets.datasets.training_set import decidable_rows
    from quant_assets.features.pack import join_packs, joined_names

    trained, tables = training_set.table().frame, by_pack(features, packs)
    through: date = trained.select(pl.col("session").max()).item()
    frame = decidable_rows(
        join_packs({pack: made.frame for pack, made in tables.items()}),
        bars.table().frame,
        joined_names(packs),
        through=through,
        members=member_rows.table().frame if member_rows else None,
    )
    untrained = frame.join(trained.select("symbol", "session"), on=["symbol", "session"], how="anti")
    return Product(Table(frame), {"rows": frame.height, "scored_but_not_trained_on": untrained.height})
