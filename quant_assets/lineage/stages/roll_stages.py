"""Market: the rolls of a universe of futures, and the bars of the contracts that are held."""

import polars as pl

from quant_assets.common.settings import UniverseConfig
from quant_assets.common.store import Table
from quant_assets.lineage.artifact import Artifact, Panel, frame_of
from quant_assets.lineage.declaring import Check, CheckResult, Product, single, stage
from quant_assets.lineage.parted_once import rows_that_are_no_bars
from quant_assets.lineage.scope import Scope


def has_rolls(scope: Scope) -> bool:
    """Whether the universe's symbols are contracts."""
    return scope.bars.rolls is not None


def roll_causality(feed: Panel, rolls: Artifact, *, universe: UniverseConfig) -> CheckResult:
    """Whether every roll is made of bars up to the close on which it was decided."""
    from quant_assets.common.roll_settings import RollsConfig
    from quant_assets.market.rolls import prove_rolls

    asked = universe.rolls or RollsConfig()
    proof = prove_rolls(frame_of(feed), rolls.table().frame, asked, universe.calendar)
    said = "; ".join(proof.violations[:5]) or f"{proof.n_compared} rolls the same at {proof.n_cuts} closes"
    return CheckResult("roll_causality", not proof.violations, said)


def rolls_in_time(rolls: Artifact) -> CheckResult:
    """WARN where a contract was left because it had stopped, or later than its rule says."""
    from quant_assets.market.rolls import REGULAR

    odd = rolls.table().frame.filter(
        ~pl.col("reason").is_in(REGULAR) | (pl.col("priced_on") < pl.col("decided_on"))
    )
    said = [f"{r['root']} {r['session']} {r['reason']}" for r in odd.head(5).iter_rows(named=True)]
    return CheckResult(
        "rolls_in_time", odd.is_empty(), "; ".join(said) or "every roll on its day", "WARN", {"rolls": odd}
    )


@stage(
    group="market",
    rederived=True,
    owner="universe",
    team="team:data",
    kinds=frozenset({"polars"}),
    wanted=has_rolls,
    checks=(
        Check(
            "roll_causality",
            single("roll_causality", "ERROR: a roll depends on bars after its close.", blocking=True),
            roll_causality,
        ),
        Check(
            "rolls_in_time",
            single(
                "rolls_in_time",
                "WARN: a roll came late, or at a close where one of its contracts had no bar.",
                blocking=False,
            ),
            rolls_in_time,
        ),
    ),
)
def rolls(feed: Panel, *, universe: UniverseConfig) -> Product:
    """Futures only: when the next contract of each root is held, decided at a close and in force a session later."""
    from quant_assets.common.roll_settings import RollsConfig
    from quant_assets.market.rolls import derive_rolls

    found = derive_rolls(frame_of(feed), universe.rolls or RollsConfig(), universe.calendar)
    return Product(Table(found), {"n_rolls": found.height, "rolls": found.tail(20)})


@stage(
    group="market",
    rederived=True,
    owner="universe",
    team="team:data",
    kinds=frozenset({"polars"}),
    wanted=has_rolls,
)
def front_bars(feed: Panel, rolls: Artifact, *, universe: UniverseConfig) -> Product:
    """Futures only: the bar of the contract that is held, as it was quoted, under the name of its root."""
    from quant_assets.common.roll_settings import RollsConfig
    from quant_assets.market.rolls import aside_of_roots
    from quant_assets.market.rolls import front_bars as held
    from quant_assets.market.set_aside import metadata_of

    asked = universe.rolls or RollsConfig()
    aside = aside_of_roots(rows_that_are_no_bars(feed), asked)
    return Product(Table(held(frame_of(feed), rolls.table().frame, asked), metadata_of(aside)))
