"""What people are shown of a refusal: every closed gate, its reason and remedy in full."""

import pickle

import pytest

from quant_assets.common.errors import GateClosedError
from quant_assets.gates.verdicts import GateReport, Verdict
from quant_assets.lineage.declaring import Markdown
from quant_assets.lineage.refusals import CLOSED_GATES, closed_gates, refusals_told

VERDICT = Verdict(
    "cpcv_sharpe",
    "5" * 64,
    "fail",
    0.1,
    1.2,
    ">=",
    "the median | net Sharpe ratio is 0.1",
    "trade better; wait",
)
REPORT = GateReport("validation", "5" * 64, {}, (VERDICT,))
REASONS = (
    "cpcv_sharpe: fail, the median | net Sharpe ratio is 0.1",
    "evidence: other bits; noise/labels and 3 more",
)


def test_each_reason_is_a_row_a_gate_with_its_remedy_and_no_cell_breaks_the_table() -> None:
    assert closed_gates(REASONS, [REPORT]).splitlines() == [
        "| closed by | why | what would open it |",
        "| --- | --- | --- |",
        "| `cpcv_sharpe` (validation) | the median \\| net Sharpe ratio is 0.1 | trade better; wait |",
        "| evidence | other bits; noise/labels and 3 more | materialise again what it names |",
    ]


def refusal() -> GateClosedError:
    found = "; ".join(REASONS)
    return GateClosedError("candidate", expected="gates", found=found, action="read", reasons=REASONS)


def test_a_refusal_that_leaves_the_block_carries_the_table_and_each_reason_whole() -> None:
    with pytest.raises(GateClosedError) as caught, refusals_told([REPORT]):
        raise refusal()
    table = caught.value.facts[CLOSED_GATES]
    assert isinstance(table, Markdown)
    assert table.text == closed_gates(REASONS, [REPORT])
    # A reason may have a "; " in it: it is one reason all the same.
    assert caught.value.reasons == REASONS


def test_a_refusal_crosses_a_process_border_with_its_reasons() -> None:
    again = pickle.loads(pickle.dumps(refusal()))
    assert (str(again), again.reasons) == (str(refusal()), REASONS)
