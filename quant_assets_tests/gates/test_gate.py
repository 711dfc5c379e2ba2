"""A new gate is one object: everything that knows of gates learns of it from there."""

import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quant_assets.common.configuration import parse
from quant_assets.common.errors import ConfigurationError, GateClosedError
from quant_assets.common.hashing import canonical_json
from quant_assets.common.provenance import closure_of
from quant_assets.common.settings import StrategyConfig
from quant_assets.gates import (
    DriftConfig,
    Gate,
    GateReport,
    GatesConfig,
    Limit,
    admit,
    closed_reasons,
    find_gate,
    foreign_limits,
    gate_modules,
    gate_names,
    gates,
    gates_of,
    gates_table,
    judge_candidate,
    limits_in_force,
    register,
    unregister,
)
from quant_assets.gates.baseline_comparison import CandidateSummary, Validation, judged_by
from quant_assets.gates.verdicts import Verdict
from quant_assets.monitoring.baseline import DriftBaseline, fit_baseline
from quant_assets.monitoring.drift_report import judge_drift
from quant_assets.reports.tear_sheet import render_tear_sheet
from quant_assets_tests.gates.extra_gates import GRAPH_ROWS, LARGEST_DISTANCE, TURNOVER
from quant_assets_tests.gates.test_judging import SUBJECT, YEAR, five, snapshot
from quant_assets_tests.monitoring import test_drift_report as drift_cases
from quant_assets_tests.reports.test_tear_sheet import Page, example

README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.fixture
def added() -> Iterator[Callable[[Gate], Gate]]:
    """Register gates for one test."""
    names = []

    def add(gate: Gate) -> Gate:
        names.append(gate.name)
        return register(gate)

    yield add
    for name in names:
        unregister(name)
    assert len(gates()) == 10


def judged(limits: GatesConfig | None = None) -> GateReport:
    return judge_candidate(SUBJECT, five(2.0, 2520), snapshot(2.0), limits or GatesConfig(), YEAR)


# ------------------------------------------------------------------------------------------ one object, one file


def test_a_new_gate_is_required_in_its_place_after_those_of_its_report(added: Callable[[Gate], Gate]) -> None:
    added(TURNOVER)
    assert gate_names("validation") == (
        "cpcv_sharpe",
        "cpcv_probabilistic_sharpe",
        "cpcv_deflated_sharpe",
        "cpcv_max_drawdown",
        "cpcv_loss_probability",
        "cpcv_cost_margin",
        "cpcv_turnover",
    )
    assert gate_names()[6:8] == ("cpcv_turnover", "walk_forward")
    assert gates_of("validation")[-1] is find_gate("cpcv_turnover") is TURNOVER


def test_its_place_says_where_it_is_shown(added: Callable[[Gate], Gate]) -> None:
    added(dataclasses.replace(TURNOVER, place=1, name="a_first"))
    assert gate_names("validation")[:2] == ("a_first", "cpcv_sharpe")


def test_its_limit_is_a_key_of_the_configuration_with_its_default_and_its_bounds(
    added: Callable[[Gate], Gate],
) -> None:
    with pytest.raises(ConfigurationError, match="unknown key 'turnover_max'"):
        parse(GatesConfig, {"turnover_max": 0.2}, Path("gates.yaml"))
    added(TURNOVER)
    assert GatesConfig().turnover_max == GatesConfig().model_dump()["turnover_max"] == 0.35
    assert parse(GatesConfig, {"turnover_max": 0.2}, Path("gates.yaml")).turnover_max == 0.2
    for wrong, said in ((3.0, "less than or equal to 2"), (0.0, "greater than 0"), ("much", "valid number")):
        with pytest.raises(ConfigurationError, match=rf"gates.yaml, key 'turnover_max': expected.*{said}"):
            parse(GatesConfig, {"turnover_max": wrong}, Path("gates.yaml"))
    with pytest.raises(ConfigurationError, match="did you mean 'turnover_max'"):
        parse(GatesConfig, {"turnover_mx": 0.2}, Path("gates.yaml"))


def test_a_strategy_may_tighten_its_limit_in_the_direction_of_its_comparison(
    added: Callable[[Gate], Gate],
) -> None:
    added(TURNOVER)
    strategy = StrategyConfig(name="one", universe="u", gates={"turnover_max": 0.1})
    assert GatesConfig().for_strategy(strategy.gates).turnover_max == 0.1
    with pytest.raises(ConfigurationError, match=r"gates.turnover_max.*at least as strict as the 0.35"):
        GatesConfig().for_strategy({"turnover_max": 0.4})


def test_it_is_judged_with_the_others_and_its_report_survives_storage(added: Callable[[Gate], Gate]) -> None:
    before = judged()
    added(TURNOVER)
    report = judged()
    assert report.verdicts[:6] == before.verdicts
    verdict = report.verdicts[6]
    assert (verdict.gate, verdict.subject, verdict.status) == ("cpcv_turnover", SUBJECT, "pass")
    assert verdict.observed == pytest.approx(0.3)
    assert (verdict.required, verdict.comparison) == (0.35, "<=")
    assert report.limits["turnover_max"] == 0.35
    assert GateReport.from_json(json.loads(canonical_json(report.to_json()))) == report
    assert foreign_limits(report) == ()
    assert judged_by(verdict, GatesConfig().model_dump())
    assert not judged_by(verdict, GatesConfig(turnover_max=0.3).model_dump())
    strict = judged(GatesConfig(turnover_max=0.2)).verdicts[6]
    assert (strict.status, strict.remedy) == ("fail", "trade less often")


def test_until_it_has_a_verdict_it_keeps_the_way_shut(added: Callable[[Gate], Gate]) -> None:
    before = judged()
    others = tuple(
        Verdict(name, SUBJECT, "pass", 1.0, 1.0, gate.limit.comparison, "it holds", "nothing")
        for name, gate in gates().items()
        if gate.kind != "validation"
    )
    admit(SUBJECT, (*before.verdicts, *others))
    added(TURNOVER)
    assert closed_reasons(SUBJECT, (*before.verdicts, *others)) == ("cpcv_turnover: no verdict",)
    with pytest.raises(GateClosedError, match=r"each of 11 gates.*cpcv_turnover: no verdict"):
        admit(SUBJECT, (*before.verdicts, *others))
    outcome = Validation(CandidateSummary("s", SUBJECT, (*before.verdicts, *others)))
    assert (outcome.exit_code, outcome.missing) == (2, ("cpcv_turnover",))
    admit(SUBJECT, (*judged().verdicts, *others))


def test_not_applicable_opens_it_only_if_it_says_so(added: Callable[[Gate], Gate]) -> None:
    gate = added(TURNOVER)
    verdict = Verdict(gate.name, SUBJECT, "not_applicable", None, 0.35, "<=", "no trades", "trade")
    assert closed_reasons(SUBJECT, [verdict], [gate.name]) == ("cpcv_turnover: not_applicable: no trades",)
    unregister(gate.name)
    added(dataclasses.replace(gate, may_not_apply=True))
    assert closed_reasons(SUBJECT, [verdict], [gate.name]) == ()


def test_it_has_its_card_on_the_tear_sheet_and_its_row_in_the_docs(added: Callable[[Gate], Gate]) -> None:
    added(TURNOVER)
    page = Page(render_tear_sheet(example(3.0))).text
    assert "1 of 7 gates is closed" in page
    assert "Turnover" in page
    assert "Turnover of capital per session is 0.4, required is ≤ 0.35" in page
    row = "| `cpcv_turnover` | the turnover of the median path is at most `turnover_max` | `turnover_max: 0.35` |"
    assert row in gates_table().splitlines()


def test_the_code_behind_it_is_in_the_version_of_its_report_and_of_no_other(
    added: Callable[[Gate], Gate],
) -> None:
    def modules() -> tuple[str, ...]:
        return closure_of(judge_candidate, gate_modules("validation")).modules

    assert "quant_assets.gates.catalogue.performance_gates" in modules()
    assert "quant_assets.gates.catalogue.drift_gate" not in modules()
    before = gate_modules("drift")
    added(TURNOVER)
    assert TURNOVER.judge.__module__ in gate_modules("validation")
    assert gate_modules("drift") == before


def test_a_gate_of_the_parity_report_has_its_limit_in_the_same_file(added: Callable[[Gate], Gate]) -> None:
    added(GRAPH_ROWS)
    held = GatesConfig().model_dump(mode="json")["parity_min_rows"]
    assert (held, type(held)) == (50, int)
    assert gate_names("parity") == ("onnx_parity", "int8_parity", "graph_rows")
    with pytest.raises(ConfigurationError, match="unknown key 'parity_min_rows'"):
        GatesConfig().for_strategy({"parity_min_rows": 100})


def test_a_gate_of_the_drift_report_has_its_limit_beside_the_others_of_drift(
    added: Callable[[Gate], Gate],
) -> None:
    added(LARGEST_DISTANCE)
    assert DriftConfig().max_js_distance_bits == 0.5
    assert "max_js_distance_bits" not in GatesConfig().model_dump()
    config = DriftConfig(max_js_distance_bits=0.0)
    values = drift_cases.panel(3, 0.5)
    frame, edge = drift_cases.frame, drift_cases.N_BASELINE
    fitted = fit_baseline(frame(values[:, :edge], 0), drift_cases.NAMES, config, training_set_version="v1")
    stored = json.loads(canonical_json(fitted.to_json()))
    assert DriftBaseline.from_json(stored) == fitted
    report = judge_drift(fitted, frame(values[:, edge:], edge), subject=SUBJECT)
    assert [(v.gate, v.required) for v in report.verdicts] == [("feature_drift", 2.0), ("largest_drift", 0.0)]
    assert report.verdicts[1].status == "fail"
    assert report.limits == limits_in_force(GatesConfig(), config)["drift"]
    assert foreign_limits(report) == ()


# ------------------------------------------------------------------------------------------ what is refused


def test_two_gates_of_the_same_name_are_refused(added: Callable[[Gate], Gate]) -> None:
    added(TURNOVER)
    assert register(TURNOVER) is TURNOVER
    for name in ("cpcv_turnover", "cpcv_sharpe"):
        other = dataclasses.replace(TURNOVER, name=name, limit=Limit("another", 1.0, "<="))
        with pytest.raises(ConfigurationError, match="another gate of that name"):
            register(other)
    assert find_gate("cpcv_turnover") is TURNOVER


@pytest.mark.parametrize("key", ["sharpe_min", "parity_max_flipped_decisions", "min_drifted_features"])
def test_two_gates_with_a_limit_of_the_same_key_are_refused(key: str) -> None:
    gates()
    with pytest.raises(ConfigurationError, match=f"limit '{key}' of gate"):
        register(dataclasses.replace(TURNOVER, limit=Limit(key, 1.0, "<=")))
    assert "cpcv_turnover" not in gate_names()


@pytest.mark.parametrize("key", ["baseline_max_sharpe_fall", "psr_standard", "known_keys"])
def test_a_limit_does_not_take_the_name_of_something_else_in_its_section(
    added: Callable[[Gate], Gate], key: str
) -> None:
    added(dataclasses.replace(TURNOVER, limit=Limit(key, 1.0, "<=")))
    with pytest.raises(ConfigurationError, match=f"limit '{key}' of a gate"):
        GatesConfig()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "Turnover"}, "name"),
        ({"kind": "opinion"}, "kind"),
        ({"title": ""}, "title"),
        ({"description": ""}, "description"),
        ({"opens_when": ""}, "opens_when"),
        ({"judge": partial(TURNOVER.judge)}, "judge"),  # its module could not be told
        ({"further": (TURNOVER.limit,)}, "further"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_gate_that_is_declared_wrong_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=f"wrong: {said}"):
        dataclasses.replace(TURNOVER, **change)


@pytest.mark.parametrize("change", [{"key": "Max Turnover"}, {"comparison": "<"}])
def test_a_limit_that_is_declared_wrong_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="a key in lower case"):
        dataclasses.replace(TURNOVER.limit, **change)


def test_an_unknown_gate_is_answered_with_the_closest_one() -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'cpcv_sharpe'"):
        find_gate("cpcv_sharp")


# ------------------------------------------------------------------------------------------ the shipped gates


def test_the_table_of_the_readme_is_the_one_that_the_gates_give() -> None:
    text = README.read_text(encoding="utf-8")
    table = re.search(r"^\| gate \| opens when .*?(?=\n\n)", text, flags=re.MULTILINE | re.DOTALL)
    assert table is not None
    assert table.group() == gates_table()


@pytest.mark.parametrize("gate", gates().values(), ids=lambda gate: gate.name)
def test_what_opens_a_gate_names_each_of_its_limits(gate: Gate) -> None:
    for limit in gate.limits:
        assert f"`{limit.key}`" in gate.opens_when
    assert gate.description.endswith(".")


def test_loading_the_configuration_imports_no_library_of_numbers() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from quant_assets.gates import GatesConfig; GatesConfig();"
        "print({'scipy', 'matplotlib', 'numba', 'onnxruntime'} & {m.split('.')[0] for m in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    assert np.isfinite(GatesConfig().sharpe_min)
