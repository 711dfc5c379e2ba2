"""Market: corporate actions, as they are inferred from prices and as somebody declared them."""

from collections.abc import Sequence

import polars as pl

from quant_assets.common.store import Table
from quant_assets.common.universe_settings import ActionsConfig
from quant_assets.lineage.artifact import Artifact, Panel, frame_of
from quant_assets.lineage.declaring import Check, CheckResult, Product, single, stage

# Facts of an event of `raw_bars`, by which later reads compare themselves with it.


def actions_in_doubt(corporate_actions: Artifact) -> CheckResult:
    """WARN while a step of the ratio is not certain, or leaves no reading of a symbol: such a symbol is set aside."""
    from quant_assets.market.actions import WITHOUT_A_READING, doubts_of

    doubts = doubts_of(corporate_actions.table())
    unread = doubts.filter(pl.col("kind").is_in(WITHOUT_A_READING))
    shown = pl.concat([unread, doubts.filter(~pl.col("kind").is_in(WITHOUT_A_READING))])
    said = "; ".join(
        f"{row['symbol']} {row['session']} {row['kind']}: {row['evidence']}; settle it under `actions:` "
        f"({row['candidates']})"
        for row in shown.head(5).iter_rows(named=True)
    )
    return CheckResult(
        "actions_in_doubt",
        doubts.is_empty(),
        f"{doubts.height} doubts, {unread.height} without a reading" + (f": {said}" if said else ""),
        "WARN",
        {"doubts": shown.head(50), "lines_to_accept_one": "\n".join(shown.head(5)["accept"])},
    )


def actions_declared(panel: Panel, *, actions: ActionsConfig) -> CheckResult:
    """WARN while a declared action is of a symbol or day without a bar, or the feed shows no such action."""
    from quant_assets.market.actions import read_actions
    from quant_assets.market.declared_actions import declared_actions, strays, without_a_step
    from quant_assets.market.listings import inside

    declared = declared_actions(actions)
    raw = inside(frame_of(panel)).join(declared, on="symbol", how="semi")
    rows = strays(declared, raw)
    if declared.height:
        rows = pl.concat([rows, without_a_step(read_actions(raw, declared).declared, raw)])
    said = "; ".join(f"{s} {day}: {why}" for s, day, why in rows.head(5).iter_rows())
    return CheckResult(
        "actions_declared",
        rows.is_empty(),
        f"{rows.height} declared actions without a bar or a step of adj_close"
        + (f": {said}" if said else ""),
        "WARN",
        {"without_a_bar": rows},
    )


def _actions_file(*, actions: ActionsConfig) -> Sequence[str]:
    from quant_assets.market.declared_actions import digest_of_file

    return [digest_of_file(actions)] if actions.path else []


@stage(
    group="market",
    rederived=True,
    owner="universe",
    team="team:data",
    kinds=frozenset({"polars"}),
    fresh=_actions_file,
    checks=(
        Check(
            "actions_in_doubt",
            single(
                "actions_in_doubt",
                "WARN: what a step of adj_close over close is, is not certain, or they contradict each other.",
                blocking=False,
            ),
            actions_in_doubt,
        ),
        Check(
            "actions_declared",
            single(
                "actions_declared",
                "WARN: a declared action is of a symbol or day without a bar, or the feed's adj_close shows none.",
                blocking=False,
            ),
            actions_declared,
        ),
    ),
)
def corporate_actions(panel: Panel, rolls: Artifact | None = None, *, actions: ActionsConfig) -> Product:
    """Splits and dividends, derived from the ratio of adjusted to raw closes; declared ones override them."""
    from quant_assets.market.actions import metadata_of, read_actions
    from quant_assets.market.declared_actions import declared_actions
    from quant_assets.market.listings import inside

    read = read_actions(inside(frame_of(panel)), declared_actions(actions))
    known = read.actions
    splits = known.filter(pl.col("kind") == "split")
    facts = {"splits": splits, "n_splits": splits.height, "n_dividends": known.height - splits.height}
    if rolls is not None:
        from quant_assets.market.rolls import as_actions

        rolled = as_actions(rolls.table().frame)
        known = pl.concat([known, rolled]).sort("symbol", "session", maintain_order=True)
        facts["n_rolls"] = rolled.height
    if read.declared.height:
        facts["declared"] = read.declared
    if read.doubts.height:
        facts["doubts"] = read.doubts
    return Product(Table(known, metadata_of(read.doubts)), facts)
