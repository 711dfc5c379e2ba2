"""Trials: one evaluation of one configuration each, and what a set of them says."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quant_assets.common.errors import ValidationError
from quant_assets.common.hashing import bytes_digest


@dataclass(frozen=True)
class Trial:
    """One evaluation of one configuration.

    Attributes
    ----------
    strategy, fingerprint : str
        Whose trial, and of which configuration (code, settings and data in one digest).
    sharpe_per_period : float
        Net Sharpe ratio of the returns, per session.
    n_obs : int
        Number of sessions.
    returns_sha256, sessions_sha256 : str
        Digests of the stored return stream and of its sessions.
    run_id, recorded_at : str
        Which run made it, and when (ISO 8601, UTC). Not part of the trial's identity.
    """

    strategy: str
    fingerprint: str
    sharpe_per_period: float
    n_obs: int
    returns_sha256: str
    sessions_sha256: str
    run_id: str
    recorded_at: str

    @property
    def identity(self) -> dict[str, Any]:
        """What makes it this trial: everything but who recorded it when."""
        return {k: v for k, v in asdict(self).items() if k not in ("run_id", "recorded_at")}


def trial_of(
    strategy: str, fingerprint: str, returns: ArrayLike, sessions: ArrayLike, *, run_id: str, recorded_at: str
) -> Trial:
    """Describe a return stream as a trial. Streams without variance count with a Sharpe ratio of 0.

    Raises
    ------
    ValidationError
        When returns are not finite, fewer than 2, not one per session, or sessions do not ascend.
    """
    from quant_assets.validation.sharpe import sharpe_ratio

    values, days = stream_of(returns, sessions)
    ascending = len(days) == len(values) >= 2 and bool((np.diff(days) > 0).all())
    if not (ascending and np.isfinite(values).all()):
        raise ValidationError(
            f"trial {fingerprint} of {strategy}",
            expected="at least 2 finite returns, one for each of ascending sessions",
            found=f"{values.size} returns ({int((~np.isfinite(values)).sum())} not finite), {days.size} sessions",
            action="record the net returns of one full-length path",
        )
    ratio = float(sharpe_ratio(values))
    return Trial(
        strategy=strategy,
        fingerprint=fingerprint,
        sharpe_per_period=0.0 if np.isnan(ratio) else ratio,
        n_obs=len(values),
        returns_sha256=bytes_digest(values.tobytes()),
        sessions_sha256=bytes_digest(days.tobytes()),
        run_id=run_id,
        recorded_at=recorded_at,
    )


@dataclass(frozen=True)
class TrialSnapshot:
    """The ledger of one strategy at one moment: where the gates take N and V from.

    Attributes
    ----------
    sharpes : tuple of float
        Per-period Sharpe ratio of each trial, in order of their fingerprints.
    effective_number_of_trials : float
        Correlated trials counted by what they add; between 1 and ``n_trials``.
    digest : str
        Digest of the trials' identities: the version of the evidence.
    chain_length, chain_head : int, str
        Anchor for `quant_assets.validation.ledger.TrialLedger.require`.
    """

    strategy: str
    sharpes: tuple[float, ...]
    effective_number_of_trials: float
    digest: str
    chain_length: int
    chain_head: str

    @property
    def n_trials(self) -> int:
        """Distinct configurations evaluated. Counted, so that nobody can type it."""
        return len(self.sharpes)

    @property
    def trial_variance(self) -> float:
        """Variance (ddof 1) of the per-period Sharpe ratios; 0 for fewer than two trials."""
        return float(np.var(self.sharpes, ddof=1)) if len(self.sharpes) > 1 else 0.0


def stream_of(returns: ArrayLike, sessions: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Returns as float64 and sessions as days since 1970, in the byte order in which they are stored."""
    days = np.asarray(sessions, dtype="datetime64[D]").ravel().astype("<i8")
    return np.asarray(returns, dtype="<f8").ravel(), days
