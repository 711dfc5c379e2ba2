"""The command: its output, its files and its exit codes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from quant_assets.cli.backtest_command import backtest
from quant_assets.common.home import Home
from quant_assets.ledgers.trials import TrialLedger
from quant_assets.trading.backtest import SCHEMA_VERSION, result_schema
from quant_assets_tests.trading.backtest.tables import market, schema_violations, three_symbols

app = typer.Typer(pretty_exceptions_enable=False)
app.command("backtest")(backtest)

# The same command as a process of its own, through the entry point.
PROGRAM = "from quant_assets.cli.main import main; main()"
FULL = ("--top-k", "2", "--compare-baselines", "--extended-metrics")


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "scores.parquet"
    market(60, 6).write_parquet(file)
    return file


def test_the_report_is_printed_and_written_and_obeys_the_schema(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    result = invoke(data, *FULL, "--json-output", out)
    assert (result.exit_code, result.stderr) == (0, "")
    for text in ("model", "random", "equal_weight", "cap_weighted", "momentum", "Sharpe", "rank IC: mean"):
        assert text in result.stdout
    report = json.loads(out.read_bytes())
    schema = result_schema()
    assert schema_violations(report, schema, schema) == []
    assert report["schema_version"] == SCHEMA_VERSION == schema["properties"]["schema_version"]["const"]
    assert report["data"]["name"] == "scores.parquet"
    assert all(b["available"] for b in report["baselines"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.json", "scores.parquet"]


def test_a_backtest_is_a_look_and_counts_where_its_bars_are_judged(data: Path, tmp_path: Path) -> None:
    """Scores of fifty models tried on one file of bars, and none of them was a trial."""
    home = Home().path
    assert "trial 1 of scores_" in invoke(data, *FULL).stdout
    assert "trial 1 of scores_" in invoke(data, *FULL).stdout  # the same look
    assert "trial 2 of scores_" in invoke(data, "--top-k", "3").stdout
    other = tmp_path / "other.parquet"
    table = pl.read_parquet(data)
    table.with_columns((-pl.col("score")).alias("score")).write_parquet(other)
    assert "trial 3 of scores_" in invoke(other, *FULL).stdout
    shown = invoke(other, "--top-k", "4", "--universe", "us_tech").stdout
    assert "of us_tech.forward_return, on the bars of scores_" in shown
    assert TrialLedger(home).snapshot("us_tech.forward_return").n_trials == 4
    assert invoke(other, "--universe", "us_teck").exit_code != 0


def test_the_json_is_canonical(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert invoke(data, *FULL, "--json-output", out).exit_code == 0
    text = out.read_text(encoding="utf-8")
    again = json.dumps(
        json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in the report")),
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
    )
    assert text == again + "\n"
    assert str(tmp_path) not in text


def test_two_processes_with_other_threads_and_hash_seeds_write_the_same_bytes(tmp_path: Path) -> None:
    written = []
    for folder, seed, threads in (("a", "1", "1"), ("b", "2", "2")):
        (tmp_path / folder).mkdir()
        file = tmp_path / folder / "scores.csv"
        market(60, 6).write_csv(file)
        out = tmp_path / folder / "out.json"
        environment = os.environ | {"PYTHONHASHSEED": seed, "POLARS_MAX_THREADS": threads}
        subprocess.run(
            [sys.executable, "-c", PROGRAM, "backtest", str(file), *FULL, "--json-output", str(out)],
            env=environment,
            check=True,
            capture_output=True,
        )
        written.append(out.read_bytes())
    assert written[0] == written[1]
    assert len(written[0]) > 5000


def test_without_options_the_report_is_short(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert invoke(data, "--json-output", out).exit_code == 0
    report = json.loads(out.read_bytes())
    assert report["settings"]["top_k"] == 10
    assert report["baselines"] is report["information"] is report["by_session"] is None
    assert report["model"]["account"] is None


def test_options_reach_the_report(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    options = "--horizon=3 --returns-from=prices --seed=7 --periods-per-year=260 --extreme-return=0.1"
    costs = "--commission-bps=2 --half-spread-bps=3 --impact-coefficient=0.25 --capital=5000"
    assert (
        invoke(
            data, *FULL, *options.split(), *costs.split(), "--column=score=score", "--json-output", out
        ).exit_code
        == 0
    )
    assert json.loads(out.read_bytes())["settings"] == {
        "top_k": 2,
        "horizon_sessions": 3,
        "returns_from": "prices",
        "compare_baselines": True,
        "extended_metrics": True,
        "seed": 7,
        "costs": {
            "commission_bps": 2.0,
            "half_spread_bps": 3.0,
            "impact_coefficient": 0.25,
            "borrow_fee_bps": 50.0,
            "funding_bps": 0.0,
            "capital": 5000.0,
            "model": None,
        },
        "periods_per_year": 260.0,
        "extreme_return": 0.1,
    }


def test_warnings_flags_and_unavailable_baselines_are_printed(tmp_path: Path) -> None:
    file = tmp_path / "scores.csv"
    frame = three_symbols()
    frame.with_columns(frame["score"].scatter(0, None)).write_csv(file)
    result = invoke(file, *FULL, "--extreme-return", "0.04")
    assert result.exit_code == 0
    assert "warning: Market impact is not charged" in result.stdout
    assert "baseline momentum is not available: the file has no column close" in result.stdout
    assert "flagged: A, missing score in 1 sessions (0 chosen), 2024-01-01 to 2024-01-01" in result.stdout


def test_a_data_error_is_one_message_on_stderr_exit_code_one_and_no_report(tmp_path: Path) -> None:
    file, out = tmp_path / "scores.csv", tmp_path / "out.json"
    file.write_text("symbol,session,score,forward_return\nA,2024-01-02,x,0\n", encoding="utf-8")
    for data, told in ((file, "row 1, column 'score'"), (tmp_path / "none.csv", "expected a readable file")):
        result = invoke(data, "--json-output", out)
        assert (result.exit_code, result.stdout) == (1, "")
        assert told in result.stderr
        assert "Traceback" not in result.stderr
        assert not out.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("scores.txt",),
        ("scores.csv", "--top-k", "0"),
        ("scores.csv", "--top-k", "many"),
        ("scores.csv", "--horizon", "0"),
        ("scores.csv", "--commission-bps", "-1"),
        ("scores.csv", "--returns-from", "hope"),
        ("scores.csv", "--column", "score"),
        ("scores.csv", "--json-output", "no/such/folder/out.json"),
        ("scores.csv", "--unknown"),
    ],
)
def test_wrong_usage_is_exit_code_two(arguments: tuple[str, ...]) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert "Usage" in result.stderr


def test_a_costs_option_that_is_not_a_number_is_wrong_usage(data: Path) -> None:
    for value in ("nan", "inf"):
        result = invoke(data, "--capital", value)
        assert result.exit_code == 2, value


def test_the_help_says_what_the_data_must_hold() -> None:
    text = " ".join(invoke("--help").stdout.split())
    for name in ("symbol, session, score, and forward_return or close", "Example:", "130 when interrupted"):
        assert name in text


def test_the_schema_is_printed_without_data() -> None:
    result = invoke("--schema")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == result_schema()


def test_the_schema_lists_every_property_as_required_and_no_other() -> None:
    def objects(node: object) -> Iterator[dict[str, object]]:
        if isinstance(node, dict):
            if "properties" in node and node.get("type") == "object":
                yield node
            for inner in node.values():
                yield from objects(inner)
        elif isinstance(node, list):
            for inner in node:
                yield from objects(inner)

    found = list(objects(result_schema()))
    assert len(found) == 14
    for node in found:
        assert node["required"] == sorted(node["properties"])  # type: ignore[call-overload]
        assert node["additionalProperties"] is False


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("model", "precision_at_k"), 1.5),
        (("schema_version",), "2.0.0"),
        (("data", "sha256"), "abc"),
        (("model", "account", "max_drawdown_fraction"), 0.1),
        (("coverage", "first_session"), "01/02/2024"),
        (("settings", "top_k"), True),
        (("model", "surprise"), 1),
    ],
)
def test_the_schema_refuses_what_no_report_says(
    data: Path, tmp_path: Path, path: tuple[str, ...], value: object
) -> None:
    out = tmp_path / "out.json"
    assert invoke(data, *FULL, "--json-output", out).exit_code == 0
    report = json.loads(out.read_bytes())
    node = report
    for name in path[:-1]:
        node = node[name]
    node[path[-1]] = value
    schema = result_schema()
    assert schema_violations(report, schema, schema) != []


def test_an_interrupt_is_exit_code_130_and_leaves_the_old_report(tmp_path: Path) -> None:
    # Reading a pipe that nobody writes to waits for ever, so the signal always meets a command at work.
    pipe, out = tmp_path / "scores.csv", tmp_path / "out.json"
    os.mkfifo(pipe)
    out.write_text("the old report", encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "backtest", str(pipe), "--json-output", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A test run started in the background ignores SIGINT, and its children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        writer = _open_when_read(pipe, process)
        process.send_signal(signal.SIGINT)
        # A signal just before the read is noticed after it, so the read must end; no data has come by then.
        os.close(writer)
        _, told = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert b"Traceback" not in told
    assert out.read_text(encoding="utf-8") == "the old report"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.json", "scores.csv"]


def _open_when_read(pipe: Path, process: "subprocess.Popen[bytes]") -> int:
    """Open the writing end as soon as the command has opened the reading end."""
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # nobody reads yet
            time.sleep(0.02)
    pytest.fail(f"the command never read its data (exit code {process.poll()})")
