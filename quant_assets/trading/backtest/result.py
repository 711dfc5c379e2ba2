"""The result of a backtest as data, what a reader should look at first, and its conventions in words."""

import json
import math
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from quant_assets.common.hashing import canonical_json
from quant_assets.trading.backtest.outcomes import BacktestSettings, Outcomes
from quant_assets.trading.backtest.score_table import DataFacts, Panel

# -------------------------------------------------------------------------------------- what to look at first


FlagReason = Literal["missing score", "missing return", "extreme return", "not tradable"]


@dataclass(frozen=True)
class FlaggedAsset:
    """One symbol and one reason.

    Attributes
    ----------
    sessions : int
        Decision sessions in which the reason applies.
    selected_sessions : int
        Those in which the model wanted to hold the symbol.
    largest_return_fraction : float or None
        Of an extreme return: the one furthest from 0.
    """

    symbol: str
    reason: FlagReason
    sessions: int
    selected_sessions: int
    first_session: date
    last_session: date
    largest_return_fraction: float | None


def flagged_assets(
    panel: Panel, outcomes: Outcomes, selected: NDArray[np.bool_], extreme_return: float
) -> tuple[FlaggedAsset, ...]:
    """Every symbol with a reason, by symbol and reason.

    ``missing score``: the file has a row without a score. ``missing return``: the return that followed is not
    known although other symbols' is. ``extreme return``: beyond ``extreme_return`` in size. ``not tradable``: it
    was wanted and its return is known, but at that time it had no price to be filled at, or no liquidity to
    charge impact with.
    """
    rows = slice(outcomes.start, outcomes.start + len(selected))
    listed, score = panel.listed[rows], panel.score[rows]
    known = np.isfinite(outcomes.label)
    blocked = np.zeros(selected.shape, dtype=bool)
    blocked[outcomes.decisions] = ~outcomes.tradable
    reasons: tuple[tuple[FlagReason, NDArray[np.bool_]], ...] = (
        ("extreme return", known & (np.abs(np.where(known, outcomes.label, 0.0)) > extreme_return)),
        ("missing return", listed & ~known & known.any(axis=1, keepdims=True)),
        ("missing score", listed & np.isnan(score)),
        ("not tradable", blocked & selected & known),
    )
    sessions = panel.sessions[rows]
    found = []
    for reason, applies in reasons:
        for column in np.flatnonzero(applies.any(axis=0)):
            at = np.flatnonzero(applies[:, column])
            label = outcomes.label[at, column]
            found.append(
                FlaggedAsset(
                    symbol=panel.symbols[column],
                    reason=reason,
                    sessions=len(at),
                    selected_sessions=int(selected[at, column].sum()),
                    first_session=sessions[at[0]].item(),
                    last_session=sessions[at[-1]].item(),
                    largest_return_fraction=(
                        float(label[np.abs(label).argmax()]) if reason == "extreme return" else None
                    ),
                )
            )
    return tuple(sorted(found, key=lambda flag: (flag.symbol, flag.reason)))


# ----------------------------------------------------------------------------------------- the result as data


SCHEMA_VERSION = "1.0.0"

# Twelve significant digits: all that the inputs carry, and the last bits of a sum may differ between processors.
_DIGITS = ".12g"


@dataclass(frozen=True)
class Conventions:
    """The choices that numbers depend on, in sentences."""

    selection: str
    precision_at_k: str
    outcome: str
    account: str
    costs: str


@dataclass(frozen=True)
class Coverage:
    """How much of the file was judged. Sessions are decision sessions: from the first with a score to the last.

    ``short_sessions`` hold fewer than k because fewer have a score.
    """

    first_session: date
    last_session: date
    file_sessions: int
    symbols: int
    decision_sessions: int
    sessions_without_scores: int
    sessions_without_returns: int
    short_sessions: int
    scores_missing: int
    returns_missing: int
    selected_without_return: int


@dataclass(frozen=True)
class Coefficient:
    """Mean of a per-session information coefficient.

    Attributes
    ----------
    mean, sd : float
        Over ``n_sessions``; NaN when there are too few.
    t_statistic, p_value : float
        Of `quant_assets.statistics.overfitting.dependent_mean`, because labels of neighbouring sessions overlap; NaN
        on fewer sessions than twice the horizon.
    """

    mean: float
    sd: float
    t_statistic: float
    p_value: float
    n_sessions: int


@dataclass(frozen=True)
class AccountRecord:
    """An account's periods in numbers. Returns, costs and turnover are fractions; ratios net of costs.

    Undefined ratios (no variance, no loss) are NaN. ``turnover_per_period`` counts both sides.
    """

    n_periods: int
    periods_in_cash: int
    mean_symbols_held: float
    mean_invested_fraction: float
    sharpe_per_period: float
    sharpe_annual: float
    gross_sharpe_annual: float
    sortino_annual: float
    calmar: float
    max_drawdown_fraction: float
    annual_volatility_fraction: float
    win_rate_fraction: float
    turnover_per_period: float
    annual_commission_fraction: float
    annual_spread_fraction: float
    annual_impact_fraction: float


@dataclass(frozen=True)
class BookResult:
    """One way to choose, and what came of it. Fractions; ``annual_return_fraction`` is net of costs."""

    name: str
    definition: str
    precision_at_k: float
    average_return_at_k: float
    positive_share_at_k: float
    annual_return_fraction: float
    gross_annual_return_fraction: float
    account: AccountRecord | None


@dataclass(frozen=True)
class BaselineResult:
    """A baseline beside the model; ``result`` is None when the file lacks what it needs, and ``reason`` says what.

    ``model_excess_per_period`` is the mean of the model's net return minus the baseline's, with a t-statistic
    that allows for dependence.
    """

    name: str
    available: bool
    reason: str | None
    result: BookResult | None
    model_excess_per_period: float | None
    model_excess_t_statistic: float | None


@dataclass(frozen=True)
class SessionSeries:
    """Per decision session, in order; NaN where undefined."""

    session: tuple[date, ...]
    ic: tuple[float, ...]
    rank_ic: tuple[float, ...]
    precision_at_k: tuple[float, ...]
    average_return_at_k: tuple[float, ...]
    symbols_selected: tuple[int, ...]
    net_return: tuple[float, ...]


@dataclass(frozen=True)
class InformationResult:
    """Information coefficients of the scores."""

    ic: Coefficient
    rank_ic: Coefficient


@dataclass(frozen=True)
class LatestSelection:
    """What the scores choose in the last scored session, best first."""

    session: date
    symbols: tuple[str, ...]


@dataclass(frozen=True)
class BacktestResult:
    """A whole backtest. ``baselines``, ``information`` and ``by_session`` are None when not asked for."""

    data: DataFacts
    settings: BacktestSettings
    returns_from: str
    periods_per_year: float
    period_sessions: int
    conventions: Conventions
    coverage: Coverage
    model: BookResult
    baselines: tuple[BaselineResult, ...] | None
    information: InformationResult | None
    by_session: SessionSeries | None
    latest_selection: LatestSelection
    flagged: tuple[FlaggedAsset, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> bytes:
        """Canonical JSON: sorted keys, no NaN (undefined numbers are null), 12 significant digits, final newline."""
        content = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "settings"}
        plain = {
            "schema_version": SCHEMA_VERSION,
            "settings": self.settings.model_dump(mode="json"),
            **{name: _record(value) for name, value in content.items()},
        }
        plain["data"]["columns"] = dict(self.data.columns)
        return canonical_json(_plain(plain)) + b"\n"


def result_schema() -> dict[str, Any]:
    """The published JSON Schema (draft 2020-12) of `BacktestResult.to_json`."""
    text = Path(__file__).with_name("schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def _record(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_record(item) for item in value]
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        # Adding 0 turns -0.0 into 0.0.
        return float(format(value, _DIGITS)) + 0.0 if math.isfinite(value) else None
    return value.isoformat() if isinstance(value, date) else value


# ------------------------------------------------------------------------------- its conventions in sentences


_OUTCOME = {
    "forward_return": (
        "The column forward_return as the file has it, a simple return over {h} session(s). It must begin at or "
        "after the fill that follows the decision at the close of its session: one that begins at that close "
        "itself trades at a price known only with the decision."
    ),
    "open": "Open of the session after the decision to the open {h} session(s) later.",
    "close": (
        "Close of the session after the decision to the close {h} session(s) later (the file has no opens to "
        "fill at)."
    ),
}
_ACCOUNT_PRICES = (
    "Decided at the close of a session, filled at the next session's {mark}, 1/{h} of the account renewed each "
    "session, marked every session; what ends leaves at its last close, what halts is carried to its next {mark}."
)
_ACCOUNT_RETURNS = (
    "Decided at the close of a session; the whole account is renewed every {h} session(s), so periods never "
    "overlap. Prices would allow overlapping tranches and daily marks. A chosen symbol whose return is not known "
    "is not bought: its share stays in cash, and it is counted and flagged."
)


def conventions_of(outcomes: Outcomes, settings: BacktestSettings) -> Conventions:
    """The conventions under which these numbers were computed."""
    h = settings.horizon_sessions
    account = _ACCOUNT_RETURNS if outcomes.kind == "forward_return" else _ACCOUNT_PRICES
    impact = "no market impact" if outcomes.impact_note is not None else "square-root market impact"
    return Conventions(
        selection=(
            "Score descending, then symbol ascending; no score ranks last and is never chosen; equal weights."
        ),
        precision_at_k=(
            "Share of chosen symbols with a known return above the median of the session's known returns, "
            "averaged over sessions; chance gives one half."
        ),
        outcome=_OUTCOME[outcomes.kind].format(h=h),
        account=account.format(h=h, mark=outcomes.kind),
        costs=(
            f"Commission, half spread and {impact}, charged on the change from the drifted position at every "
            "fill; both sides of a trade count as turnover; cash earns nothing."
        ),
    )
