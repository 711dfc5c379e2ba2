"""The report as data: small frozen records, and their one canonical JSON form."""

import json
import math
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from quant_assets.common.hashing import canonical_json
from quant_assets.validation.backtest.flags import FlaggedAsset
from quant_assets.validation.backtest.inputs import DataFacts
from quant_assets.validation.backtest.metrics import AccountRecord, Coefficient
from quant_assets.validation.backtest.settings import BacktestSettings

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

    ``model_excess_per_period`` is the mean of the model's net return minus the baseline's, with a Newey-West
    t-statistic.
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
