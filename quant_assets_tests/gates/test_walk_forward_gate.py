"""The gate of the walk-forward track: what opens it, what closes it, and evidence that it does not take."""

import math
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from quant_assets.common.errors import EvidenceError
from quant_assets.gates.cases import WalkForwardCase, WalkForwardTrack
from quant_assets.gates.catalogue.performance_gates import WALK_FORWARD
from quant_assets.gates.limits import GatesConfig
from quant_assets.lineage.stages.evidence_stages import beside_the_paths

TRACK = WalkForwardTrack(500, 0.8, 2, 1.1, 0.2)
N = 300


@pytest.mark.parametrize(
    ("p_value", "status"), [(0.2, "pass"), (0.01, "pass"), (0.0099, "fail"), (math.nan, "fail")]
)
def test_it_opens_from_the_limit_on_and_is_closed_where_there_is_no_p_value(
    p_value: float, status: str
) -> None:
    case = WalkForwardCase("m" * 64, GatesConfig(), replace(TRACK, p_value=p_value))
    verdict = WALK_FORWARD.judge(case)
    assert verdict.status == status
    assert verdict.required == 0.01
    assert "500 sessions" in verdict.reason


def test_it_applies_to_everybody() -> None:
    assert not WALK_FORWARD.may_not_apply


def returns(*streams: np.ndarray, first: date = date(2020, 1, 1)) -> pl.DataFrame:
    days = [first + timedelta(days=k) for k in range(len(streams[0]))]
    return pl.concat(
        pl.DataFrame({"path": [number] * len(days), "session": days, "net_return": stream})
        for number, stream in enumerate(streams)
    )


def streams(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 0.01 * (0.8 * rng.standard_normal(N) + 0.6 * rng.standard_normal((4, N)))


def test_the_track_is_held_against_the_worst_path_over_its_own_sessions() -> None:
    x, good, bad, late = streams(1)
    paths = returns(good + 0.01, bad, np.where(np.arange(N) < 100, late - 0.05, late + 0.01))
    found = beside_the_paths(returns(x[100:], first=date(2020, 4, 10)), paths, 252.0)
    assert (found.worst_path, found.n_sessions) == (1, 200)  # path 2 was the worst before the track began
    assert found.sharpe_annual == pytest.approx(x[100:].mean() / x[100:].std(ddof=1) * np.sqrt(252))
    assert found.worst_sharpe_annual == pytest.approx(bad[100:].mean() / bad[100:].std(ddof=1) * np.sqrt(252))


def test_paths_that_knew_the_future_close_it_and_honest_ones_do_not() -> None:
    def verdict(extra: float) -> str:
        x, *paths = streams(2)
        found = beside_the_paths(returns(x), returns(*(path + extra for path in paths)), 252.0)
        return WALK_FORWARD.judge(WalkForwardCase("m" * 64, GatesConfig(), found)).status

    assert (verdict(0.0), verdict(0.004)) == ("pass", "fail")


def test_a_track_over_sessions_that_the_paths_lack_is_no_evidence() -> None:
    x, path, *_ = streams(3)
    with pytest.raises(EvidenceError, match=r"300 sessions in each of the 1 paths.*found 299 of 300"):
        beside_the_paths(returns(x), returns(path[1:], first=date(2020, 1, 2)), 252.0)
