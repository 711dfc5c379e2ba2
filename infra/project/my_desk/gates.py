"""Gates of this desk, beside the platform's. A strategy names them: `further_gates: [my_desk.gates:max_turnover]`.

A gate of a desk can close and never open what the platform's own gates close.
"""

from quant_assets.gates import Finding, TrackRecord, at_most


def max_turnover(seen: TrackRecord, *, most: float = 0.5) -> Finding:
    """The median path trades no more than so much of its capital in a session."""
    return at_most(
        seen.median.turnover_per_session,
        most,
        "turnover of the median path, a fraction of capital per session",
        remedy="hold longer, or trade fewer names",
    )
