"""What one step of the ratio is read as: a change of shares, a distribution, or what no action can be.

Prices are adjusted by the step in any case, since that is what the vendor says; whether volume is too depends on the
reading. Where the signs do not decide, the reading is the one that leaves volume alone, with a doubt beside it.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

from quant_assets.market.action_steps import SMALLEST_ACTION, SMALLEST_BONUS, Step

LARGEST_SPLIT = 1000
SMALLEST_SPLIT = 1.2
SMALLEST_CONSOLIDATION = 1.05
DIVIDEND_BESIDE_SPLIT = 1.02
# Old shares of the bonus issues and consolidations that are looked for: 10:17, 11:12, 20:21; k:(k+1) further.
LARGEST_TERM, LARGEST_NEIGHBOUR = 20, 50
# Chance that a distribution of any size lies so near to a ratio of such terms: above it, the size is no sign.
LARGEST_ACCIDENT = 0.01
# Thirds and quarters (4:3, 5:4) are common splits: twice that chance, and one round sum in three or four by itself.
USUAL_TERM = 4
# Between the two, a rise is read as a distribution, with a doubt.
DOUBTFUL_ACCIDENT, SMALLEST_DOUBT = 0.1, 1.05
# Shares of the way (in logarithms) that a raw close goes by accident, and with a share change of this size.
HARDLY_GONE = 0.25
# In usual (median absolute) moves: below, a day's own move hides whether the price followed.
CLEAR_MOVES = 4.0
BUSY_DAY = 3.0
# Median volumes of two months differ by some 20 %: below the first, volume says nothing; from the second on, one that
# stood still says that no shares came.
SMALLEST_VOLUME_SIGN, CLEAR_VOLUME = 1.3, 1.5
USUAL_BESIDE = tuple(
    Fraction(*terms) for terms in ((3, 2), (5, 2), (4, 3), (5, 4), (6, 5), (11, 10), (21, 20))
)

# From 4:3 on, a split with a dividend is as usual as a distribution of that size; below, the paid sum must be round.
SMALLEST_LIKELY = Fraction(4, 3)


@dataclass(frozen=True)
class Action:
    """``kind`` "split", "dividend" or "spin_off"; as a row of `quant_assets.market.actions.ACTIONS_SCHEMA`."""

    kind: str
    ratio: float | None
    price_factor: float
    amount: float | None = None


@dataclass(frozen=True)
class Reading:
    """What a step is read as. ``doubt`` is "", "ambiguous" or "contradiction"; ``candidates`` come with it."""

    actions: tuple[Action, ...]
    doubt: str = ""
    evidence: str = ""
    candidates: tuple[tuple[str, str], ...] = ()


def read_step(step: Step) -> Reading:
    """Read one step of the ratio by its size, its rounding noise, the raw price and the volume around it.

    Notes
    -----
    Growth below 1.02 is a dividend. A whole ratio, or one of halves below 4, that the price follows is a split.
    Any other ratio n:m of small terms is one when a distribution of any size would hardly lie so near
    (probability below 1 %) and the implied amount is no round sum, or the volume followed. A fall of the ratio that
    the price follows is a consolidation of whatever ratio.
    """
    if 1 <= step.growth < SMALLEST_BONUS:
        return Reading((_distribution(step),))
    usual = _usual_split(step)
    if usual is not None:
        return Reading(_share_change(step, usual))
    return _fall(step) if step.growth < 1 else _rise(step)


def as_text(ratio: Fraction | float) -> str:
    """A ratio as it is spoken of: new shares to old."""
    return f"{ratio.numerator}:{ratio.denominator}" if isinstance(ratio, Fraction) else f"{ratio:.6g}:1"


# ------------------------------------------------------------------------------------------- the two directions


def _fall(step: Step) -> Reading:
    """Only a consolidation makes the ratio fall, and it takes the price up."""
    named = _named(step)
    if named is not None and step.way_gone >= HARDLY_GONE:
        if step.price_followed:
            return Reading(_share_change(step, named))
        return Reading(
            _share_change(step, named), "ambiguous", _signs(step), (_split_line(named), _none_line())
        )
    clear = max(math.log(SMALLEST_CONSOLIDATION), CLEAR_MOVES * step.usual_move)
    if step.price_followed and -math.log(step.growth) >= clear:
        near, _ = _simplest(step)
        if near is not None:  # shares were consolidated; only which of the ratios within rounding is open
            return Reading(_share_change(step, near))
        # The denominators of the old shares: 6 new for 11 old, with at most 2 % paid beside it.
        pairs = [(math.floor(step.growth * old), old) for old in range(2, 13)]
        beside = {
            Fraction(new, old): None
            for new, old in pairs
            if new and 1 < step.growth * old / new <= DIVIDEND_BESIDE_SPLIT
        }
        # The simplest ratio beside which a whole number of cents was paid; the simplest one when there is none.
        likely = sorted(beside, key=lambda r: (not _is_round(step, _amount(step, float(r))), r.denominator))
        if likely:
            lines = tuple(_split_line(ratio) for ratio in likely[:2])
            lines = lines if len(lines) > 1 else (*lines, _split_line(step.growth))
            return Reading(_share_change(step, likely[0]), "ambiguous", _signs(step), lines)
        return Reading((Action("split", step.growth, 1 / step.growth),))
    return Reading((), "contradiction", _signs(step), (_none_line(), _factor_line(step)))


def _rise(step: Step) -> Reading:
    """A rise is a bonus issue or a distribution; from 1.2 on, the price must follow either."""
    named, round_sum = _named(step), _is_round(step, _amount(step, 1.0))
    if step.growth >= SMALLEST_SPLIT and not step.price_followed:
        if step.activity >= BUSY_DAY or (named is None and round_sum):
            whole = named is not None and named.denominator == 1
            actions = _share_change(step, named) if whole and named is not None else (_distribution(step),)
            lines = (_factor_line(step), _none_line()) + ((_split_line(named),) if named is not None else ())
            return Reading(actions, "ambiguous", _signs(step), lines)
        return Reading((), "contradiction", _signs(step), (_none_line(), _factor_line(step)))
    if named is not None:
        followed = _volume_followed(step, float(named))
        clear = math.log(step.growth) >= CLEAR_MOVES * step.usual_move > 0
        against = (
            (round_sum and not followed and named.denominator > USUAL_TERM)
            or (followed is False and named >= CLEAR_VOLUME)
            or (clear and step.way_gone < HARDLY_GONE)
        )
        if not against:
            return Reading(_share_change(step, named))
        return Reading(
            (_distribution(step),), "ambiguous", _signs(step), (_factor_line(step), _split_line(named))
        )
    for ratio in USUAL_BESIDE if not round_sum else ():
        beside = step.growth / float(ratio)
        likely = ratio >= SMALLEST_LIKELY or _is_round(step, _amount(step, float(ratio)))
        if 1 + step.noise < beside <= DIVIDEND_BESIDE_SPLIT and likely:
            sure = _volume_followed(step, float(ratio))
            actions = _share_change(step, ratio) if sure else (_distribution(step),)
            return Reading(actions, "ambiguous", _signs(step), (_split_line(ratio), _factor_line(step)))
    near, accident = _simplest(step)
    if near is not None and accident <= DOUBTFUL_ACCIDENT and step.growth >= SMALLEST_DOUBT and not round_sum:
        return Reading(
            (_distribution(step),), "ambiguous", _signs(step), (_factor_line(step), _split_line(near))
        )
    return Reading((_distribution(step),))


# ---------------------------------------------------------------------------------------------------- the signs


def _usual_split(step: Step) -> Fraction | None:
    """New shares per old of a split of the usual kind that the price follows, alone or with a small dividend."""
    forward = step.growth > 1
    size = step.growth if forward else 1 / step.growth
    if not (SMALLEST_SPLIT * (1 - step.noise) <= size <= LARGEST_SPLIT + 1 and step.price_followed):
        return None
    for denominator in (1, 2):
        numerator = round(size * denominator)
        # Halves only for small splits (3:2, 5:2): nobody splits 37:2.
        if (denominator == 1 or size < 4) and abs(size * denominator / numerator - 1) <= step.noise:
            return Fraction(numerator, denominator) ** (1 if forward else -1)
    whole = math.floor(size) if forward else math.ceil(size)
    beside = size / whole if forward else whole / size
    if whole >= 2 and 1 < beside <= DIVIDEND_BESIDE_SPLIT:
        return Fraction(whole) ** (1 if forward else -1)
    return None


def _named(step: Step) -> Fraction | None:
    """The ratio of the smallest terms that rounding allows, if a distribution would hardly lie so near."""
    ratio, accident = _simplest(step)
    usual = ratio is not None and min(ratio.numerator, ratio.denominator) <= USUAL_TERM
    return ratio if accident <= LARGEST_ACCIDENT * (2 if usual else 1) else None


def _simplest(step: Step) -> tuple[Fraction | None, float]:
    """The ratio of the smallest terms that rounding allows, and the chance that any size lies so near to one."""
    forward = step.growth > 1
    size = step.fine_growth if forward else 1 / step.fine_growth
    if size < SMALLEST_BONUS * (1 - step.fine_noise):
        return None, 1.0
    for old in range(1, LARGEST_NEIGHBOUR + 1):
        new = round(size * old)
        if old > LARGEST_TERM and new != old + 1:
            continue
        if abs(size * old / new - 1) <= step.fine_noise:
            return Fraction(new, old) ** (1 if forward else -1), _accident(old, size, step.fine_noise)
    return None, 1.0


def _accident(old: int, size: float, noise: float) -> float:
    """Chance that a distribution of any size lies within the noise of a ratio of such terms."""
    # 0.3 old^2 ratios of terms up to `old` lie in an interval of length 1 (Farey); the neighbours k:(k + 1) of 20 to
    # 50 are 30 between 1.02 and 1.05.
    return 0.6 * old**2 * noise * size if old <= LARGEST_TERM else 2000 * noise


def _volume_followed(step: Step, ratio: float) -> bool | None:
    """Whether volume changed by half to twice the ratio (in logarithms); None where that says nothing."""
    if not math.isfinite(step.volume_change) or max(ratio, 1 / ratio) < SMALLEST_VOLUME_SIGN:
        return None
    return 0.5 <= math.log(step.volume_change) / math.log(ratio) <= 2.0


def _is_round(step: Step, amount: float) -> bool:
    """Whether an amount is a whole number of cents, where the closes are exact enough to say so."""
    error = step.previous_close * step.fine_noise + 1e-9
    return step.in_cents and amount > 0 and error <= 0.001 and abs(amount - round(amount, 2)) <= error


def _amount(step: Step, ratio: float) -> float:
    """Money per (new) share that a step beyond a split of this ratio paid."""
    return step.previous_close / ratio * (1 - ratio / step.fine_growth)


# ------------------------------------------------------------------------------------------- actions and words


def _distribution(step: Step) -> Action:
    return Action("dividend", None, 1 / step.growth, step.previous_close * (1 - 1 / step.growth))


def _share_change(step: Step, ratio: Fraction) -> tuple[Action, ...]:
    value = float(ratio)
    rest = step.growth / value
    split = Action("split", value, 1 / value)
    if rest <= 1 + max(step.noise, SMALLEST_ACTION):
        return (split,)
    return split, Action("dividend", None, 1 / rest, step.previous_close / value * (1 - 1 / rest))


def _signs(step: Step) -> str:
    parts = [
        f"adj_close/close x {step.fine_growth:.6g} (rounding {step.fine_noise:.1g})",
        f"close {step.previous_close:g} to {step.close:g}, {step.way_gone:.0%} of the way",
    ]
    if math.isfinite(step.volume_change):
        parts.append(f"median volume x {step.volume_change:.3g}")
    if step.activity:
        parts.append(f"the day's volume or range {step.activity:.2g} times the usual")
    return "; ".join(parts)


def _split_line(ratio: Fraction | float) -> tuple[str, str]:
    value = f"{ratio.numerator}/{ratio.denominator}" if isinstance(ratio, Fraction) else repr(ratio)
    return f"split {as_text(ratio)}", f'kind: split, ratio: "{value}"'


def _factor_line(step: Step) -> tuple[str, str]:
    amount = step.previous_close * (1 - 1 / step.growth)
    said = f"distribution of {amount:.6g}" if amount > 0 else f"price factor {1 / step.growth:.6g}"
    return said, f"kind: dividend, price_factor: {1 / step.growth!r}"


def _none_line() -> tuple[str, str]:
    return "no action", "kind: none"
