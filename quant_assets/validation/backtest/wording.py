"""The conventions of a backtest in sentences, for its report."""

from quant_assets.validation.backtest.outcomes import Outcomes
from quant_assets.validation.backtest.result import Conventions
from quant_assets.validation.backtest.settings import BacktestSettings

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
    "session, marked every session; what stops trading leaves at its last close."
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
