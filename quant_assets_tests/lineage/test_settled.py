"""A refusal that stands: whichever gate closed the way, one of the desk's own among them."""

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from quant_assets.common.hashing import json_digest
from quant_assets.common.home import Home
from quant_assets.common.plugins import Plugin
from quant_assets.gates.gate import gates
from quant_assets.gates.verdicts import GateReport, Status, Verdict
from quant_assets.ledgers.promotions import PromotionLedger
from quant_assets.lineage.artifact import Held
from quant_assets.lineage.settled import _refusal

OWN = Plugin.of("my_desk.gates:max_turnover")


@pytest.mark.parametrize(
    ("own", "platform", "stands"),
    [("fail", "pass", True), ("pass", "fail", True), ("pass", "pass", False)],
)
def test_a_refusal_stands_while_a_gate_of_the_platform_or_of_the_desk_is_closed(
    own: Status, platform: Status, stands: bool, tmp_path: Path
) -> None:
    ensemble = Held("own/ensemble", {"model": 1})
    subject = ensemble.version

    def verdict(name: str, status: Status) -> Verdict:
        observed = 1.0 if status == "pass" else 0.0
        compared: Any = gates()[name].limit.comparison if name in gates() else ">="
        return Verdict(name, subject, status, observed if compared == ">=" else 1.0, 1.0, compared, "r", "m")

    first, *others = gates()
    verdicts = (
        verdict(first, platform), *(verdict(n, "pass") for n in others), verdict("desk_max_turnover", own)
    )  # fmt: skip
    report = GateReport("validation", subject, {}, verdicts)
    artifacts = {
        ("own", "ensemble"): ensemble,
        ("own", "validation_report"): Held("own/validation_report", report.to_json()),
        ("own", "leakage_report"): Held("own/leakage_report", {"passed": True, "summary": "none"}),
        ("own", "bundle"): Held("own/bundle", "bundle"),
    }
    lineage: Any = SimpleNamespace(
        scope=lambda _: SimpleNamespace(plan=SimpleNamespace(further_gates=(OWN,))),
        reports=lambda _: ("validation_report",),
    )
    home = Home(str(tmp_path))
    told = GateReport.from_json(artifacts["own", "validation_report"].json())
    entry = PromotionLedger(home.promotion_ledger).append(
        "refused", strategy="own", subject=subject, model_version="1", reasons=("closed",),
        evidence={"validation": json_digest(told.to_json()), "bundle": artifacts["own", "bundle"].sha256},
        actor="test", at=datetime(2026, 1, 1, tzinfo=UTC), run_id="r",
    )  # fmt: skip
    found = _refusal(lineage, "own", home, artifacts)
    assert (found == entry) if stands else (found is None)
