"""A desk's own gate can close and never open: every way around it is tried here."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from quant_assets.common.plugins import Plugin
from quant_assets.gates import admission, limits, verdicts
from quant_assets.gates import gate as registry
from quant_assets.gates.admission import closed_reasons, foreign_limits
from quant_assets.gates.apart import asked_apart
from quant_assets.gates.desk_gates import Finding, at_least, at_most, desk_name, desk_names, desk_verdict
from quant_assets.gates.desk_judging import with_desk_gates
from quant_assets.gates.details import plain_json
from quant_assets.gates.gate import gate_names, gates_of
from quant_assets.gates.limits import GatesConfig
from quant_assets.gates.verdicts import GateReport, Status, Verdict
from quant_assets.trading.paths import path_statistics

SUBJECT = "a" * 40


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Plugin]]:
    """Write the module of a desk's gate; what it names ``mine`` is the gate."""
    (tmp_path / "configs").mkdir()
    monkeypatch.setenv("QUANT_ASSETS_CONFIGS", str(tmp_path / "configs"))
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(source: str) -> Plugin:
        (tmp_path / "own_gates.py").write_text(
            "from quant_assets.gates import Finding, TrackRecord, at_least, at_most\n" + source
        )
        return Plugin.of("own_gates:mine")

    yield write
    sys.modules.pop("own_gates", None)


def paths() -> pl.DataFrame:
    """Two paths of 60 sessions."""
    rng = np.random.default_rng(3)
    sessions = pl.date_range(pl.date(2024, 1, 1), pl.date(2024, 2, 29), eager=True)
    return pl.concat(
        pl.DataFrame(
            {
                "path": pl.Series([number] * 60, dtype=pl.Int32),
                "session": sessions,
                "gross_return": rng.normal(0.001, 0.01, 60),
                "net_return": rng.normal(0.0, 0.01, 60),
                "turnover": np.full(60, 0.25),
            }
        )
        for number in range(2)
    )


def report(status: Status = "pass") -> GateReport:
    """The platform's own verdicts, all alike."""
    held = GatesConfig().model_dump(mode="json")
    judged = []
    for gate in gates_of("validation"):
        required = gate.limit.required(held)
        worse = -1.0 if gate.limit.comparison == ">=" else 1.0
        observed = required if status == "pass" else required + worse
        judged.append(
            Verdict(gate.name, SUBJECT, status, observed, required, gate.limit.comparison, "said", "")
        )
    statistics = [plain_json(asdict(path)) for path in path_statistics(paths(), 252.0)]
    details = {
        "periods_per_year": 252.0,
        "trials": {"n_trials": 3},
        "paths": statistics,
        "median_path": 1,
    }
    return GateReport("validation", SUBJECT, held, tuple(judged), details)


def reasons(of: GateReport, plugin: Plugin) -> tuple[str, ...]:
    """Why the validation report with a desk's gate does not open the way."""
    return closed_reasons(
        SUBJECT, of.verdicts, (*(g.name for g in gates_of("validation")), *desk_names([plugin]))
    )


def platform_state() -> str:
    """Everything of this process that judges, as text."""
    return json.dumps(
        {
            "gates": {name: repr(g) for name, g in registry.gates().items()},
            "functions": [
                repr((m.__name__, n, getattr(m, n)))
                for m in (registry, admission, limits, verdicts)
                for n in sorted(vars(m))
                if callable(getattr(m, n))
            ],
            "limits": GatesConfig().model_dump(mode="json"),
        }
    )


GOOD = (
    "def mine(seen, *, most=0.3):\n    return at_most(seen.median.turnover_per_session, most, 'turnover')\n"
)


def test_a_gate_is_judged_beside_ours_by_what_it_finds(desk: Callable[[str], Plugin]) -> None:
    plugin = desk(GOOD)
    opened = with_desk_gates(report(), paths(), "mine", [plugin])
    assert opened.verdicts[:-1] == report().verdicts
    assert (opened.verdicts[-1].gate, opened.verdicts[-1].status) == ("desk_mine", "pass")
    assert (opened.verdicts[-1].observed, opened.verdicts[-1].required) == (0.25, 0.3)
    assert reasons(opened, plugin) == ()
    closed = with_desk_gates(
        report(), paths(), "mine", [plugin.model_copy(update={"options": {"most": 0.2}})]
    )
    assert reasons(closed, plugin) == ("desk_mine: fail: turnover is 0.25, required is <= 0.2",)
    assert foreign_limits(closed) == ()


def test_a_gate_that_is_required_and_has_no_verdict_is_closed(desk: Callable[[str], Plugin]) -> None:
    assert reasons(report(), desk(GOOD)) == ("desk_mine: no verdict",)


# Each tries to open what is closed, or to harm what judges. None may change a verdict of ours, or this process.
ATTACKS = {
    "registers its own under our name at import": """
import quant_assets.gates.gate as g
for name in g.gate_names():
    g.unregister(name)
""",
    "replaces the judging of admission": """
import quant_assets.gates.admission as a, quant_assets.gates.verdicts as v
a.closed_reasons = lambda *_, **__: ()
v.meets = lambda *_: True
""",
    "loosens the limits": """
import quant_assets.gates.limits as li
li.GatesConfig.for_strategy = lambda self, overrides: self
li.LOOSEST.clear()
""",
    "replaces the gates when called": """
def mine(seen):
    import quant_assets.gates.gate as g
    g._REGISTRY.clear()
    return at_least(1.0, 0.0, 'anything')
""",
    "changes what it is shown": """
def mine(seen):
    for name in seen.verdicts:
        seen.verdicts[name] = 'pass'
    object.__setattr__(seen, 'n_trials', 0)
    return at_least(1.0, 0.0, 'anything')
""",
    "rewrites the report in the store it can find": """
import os, pathlib
def mine(seen):
    assert not [n for n in os.environ if 'KEY' in n or n == 'QUANT_ASSETS_HOME'], os.environ
    return at_least(1.0, 0.0, 'anything')
""",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_that_a_gate_does_opens_what_ours_closes(
    desk: Callable[[str], Plugin], attack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANT_ASSETS_SIGNING_KEY", "secret")
    source = ATTACKS[attack]
    plugin = desk(
        source if "def mine" in source else f"{source}\ndef mine(seen):\n    return at_least(1.0, 0.0, 'x')\n"
    )
    before = platform_state()
    judged = with_desk_gates(report("fail"), paths(), "mine", [plugin])
    assert platform_state() == before
    assert "own_gates" not in sys.modules
    assert judged.verdicts[:-1] == report("fail").verdicts
    closed = {reason.split(":")[0] for reason in reasons(judged, plugin)}
    assert closed == {gate.name for gate in gates_of("validation")}
    assert judged.verdicts[-1].status == "pass"  # it opens itself, which is all that it can


NO_FINDING = {
    "raises": ("def mine(seen):\n    raise RuntimeError('not today')\n", "RuntimeError: not today"),
    "gives True": ("def mine(seen):\n    return True\n", "expected a Finding"),
    "gives a verdict under our name": (
        "from quant_assets.gates import Verdict\n"
        "def mine(seen):\n    return Verdict('cpcv_sharpe', 'b' * 40, 'pass', 9.0, 1.0, '>=', 'r', 'r')\n",
        "found Verdict",
    ),
    "does not import": ("import nothing_of_the_kind\ndef mine(seen): ...\n", "No module named"),
    "has another name": ("def other(seen): ...\n", "'mine'"),
    "ends its process": ("import os\ndef mine(seen):\n    os._exit(0)\n", "ended with code 0 and said nothing"),
    "exits at import": ("import sys\nsys.exit(3)\ndef mine(seen): ...\n", "ended with code 3"),
    "writes rubbish": (
        "import os, sys, pathlib\ndef mine(seen):\n    pathlib.Path(sys.argv[-1], 'result.json').write_text('[1]')\n"
        "    os._exit(0)\n",
        "is no finding",
    ),
    "compares with a word": (
        "def mine(seen):\n    return Finding(1.0, 0.0, '!=', 'x')\n",
        "is no finding",
    ),
    "has a limit that everything meets": (
        "def mine(seen):\n    return at_least(1.0, float('-inf'), 'x')\n",
        "its limit is -inf",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_FINDING)
def test_a_gate_that_finds_nothing_is_closed_and_says_why(desk: Callable[[str], Plugin], case: str) -> None:
    source, why = NO_FINDING[case]
    plugin = desk(source)
    judged = with_desk_gates(report(), paths(), "mine", [plugin])
    (reason,) = reasons(judged, plugin)
    assert reason.startswith("desk_mine: fail: own_gates:mine gave no finding: ")
    assert why in reason
    assert {v.subject for v in judged.verdicts} == {SUBJECT}


def test_a_nan_is_a_closed_gate(desk: Callable[[str], Plugin]) -> None:
    plugin = desk("def mine(seen):\n    return at_least(float('nan'), 0.0, 'x')\n")
    judged = with_desk_gates(report(), paths(), "mine", [plugin])
    assert judged.verdicts[-1].status == "fail"
    assert reasons(judged, plugin) == ("desk_mine: fail: x is not a finite number, required is >= 0",)


def test_one_that_takes_for_ever_is_ended_with_all_that_it_started(
    desk: Callable[[str], Plugin], tmp_path: Path
) -> None:
    mark = tmp_path / "alive"
    plugin = desk(
        "import subprocess, sys, time\ndef mine(seen):\n"
        f"    later = 'import time, pathlib; time.sleep(3); pathlib.Path(\"{mark}\").touch()'\n"
        "    subprocess.Popen([sys.executable, '-c', later])\n"
        "    time.sleep(600)\n"
    )
    started = time.monotonic()
    assert asked_apart(plugin, "a gate", value=None, seconds=2.5) == "no answer within 2.5 s"
    assert time.monotonic() - started < 60
    time.sleep(3.2)
    assert not mark.exists()


def test_a_verdict_under_its_name_about_another_subject_opens_nothing(desk: Callable[[str], Plugin]) -> None:
    plugin = desk(GOOD)
    judged = with_desk_gates(report(), paths(), "mine", [plugin])
    other = replace(judged.verdicts[-1], subject="b" * 40)
    forged = replace(judged, verdicts=(*judged.verdicts[:-1], other))
    assert reasons(forged, plugin) == (f"desk_mine: judged another model version ({'b' * 12})",)


def test_no_gate_of_ours_can_be_hidden_behind_the_prefix_of_a_desks() -> None:
    assert not [name for name in gate_names() if name.startswith("desk_")]
    name = "desk_cpcv_sharpe"
    verdict = desk_verdict(Plugin.of("own:cpcv_sharpe"), SUBJECT, at_least(9.0, 1.0, "x"))
    assert verdict.gate == name
    ours = next(gate.name for gate in gates_of("validation"))
    assert closed_reasons(SUBJECT, [verdict], (ours,))[0] == f"{ours}: no verdict"


def test_numbers_decide_and_not_what_a_gate_says_of_them() -> None:
    plugin = Plugin.of("own:mine")
    assert desk_verdict(plugin, SUBJECT, at_most(1.0, 2.0, "x")).status == "pass"
    assert desk_verdict(plugin, SUBJECT, at_most(3.0, 2.0, "x")).status == "fail"
    long = desk_verdict(plugin, SUBJECT, Finding(3.0, 2.0, "<=", "x\n" * 500, "y\ny"))
    assert "\n" not in long.reason + long.remedy
    assert len(long.reason) < 400
    assert asdict(long)["subject"] == SUBJECT
    assert desk_name(Plugin.of("my-gate.v2")) == "desk_my_gate_v2"
