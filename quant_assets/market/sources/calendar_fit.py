"""Which calendar a market's days fit: no exchange is guessed where none fits, or several do."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from quant_assets.common.errors import CalendarError
from quant_assets.market.calendar import sessions, zone_of

# Calendars that a file's sessions are compared with. Others are named by option: comparing all 80 takes a minute,
# and most of Europe differs from its neighbours by a day a year.
COMPARED = (
    "XNYS", "XLON", "XETR", "XPAR", "XSWX", "XSTO", "XTSE", "BVMF", "XTKS", "XHKG", "XSHG", "XBOM", "XASX",
    "24/5", "24/7",
)  # fmt: skip
# A calendar fits when at most 1 % of its sessions are missing in the file or are days that it does not know. Most of
# the list differ by more than that; where another one fits too (Frankfurt and Paris: one or two days a year), it must
# be ten times as far off, by five days or more.
MOST_MISFITS = 0.01
TOLD_APART, FEWEST_APART = 10, 5
FEWEST_SESSIONS = 120


@dataclass(frozen=True)
class Fit:
    """How the sessions of a file fit a calendar.

    Attributes
    ----------
    unknown : tuple of date
        Days on which the file's market traded and the calendar was closed.
    missing : tuple of date
        Sessions of the calendar without a market in the file.
    """

    calendar: str
    n_sessions: int
    unknown: tuple[date, ...]
    missing: tuple[date, ...]

    @property
    def misfits(self) -> int:
        """Days on which the two differ."""
        return len(self.unknown) + len(self.missing)

    @property
    def fits(self) -> bool:
        """Whether they differ on few enough days."""
        return self.misfits <= MOST_MISFITS * self.n_sessions

    @property
    def sentence(self) -> str:
        """The comparison in words, with the first days of each kind."""
        parts = [
            f"{len(days)} {what} ({', '.join(map(str, days[:2]))}{', ...' if len(days) > 2 else ''})"
            for days, what in (
                (self.unknown, "days with bars on which it is closed"),
                (self.missing, "of its sessions without bars"),
            )
            if days
        ]
        return f"{self.calendar}: {' and '.join(parts) or 'the same days'}"


def fit_of(calendar: str, days: tuple[date, ...]) -> Fit:
    """How a market's days fit a calendar between the first and the last of them.

    Raises
    ------
    CalendarError
        As `quant_assets.market.calendar.sessions`.
    """
    expected = set(sessions(calendar, days[0], days[-1]).to_list())
    held = set(days)
    return Fit(calendar, len(expected), tuple(sorted(held - expected)), tuple(sorted(expected - held)))


def suggested_calendar(
    days: tuple[date, ...], where: str, days_in: Mapping[str, tuple[date, ...]] | None = None
) -> Fit:
    """The one calendar of `COMPARED` that a market's days fit.

    Parameters
    ----------
    days_in : mapping of str to tuple of date, optional
        The days by zone, where they depend on it.

    Raises
    ------
    CalendarError
        When none fits, when several do, or when there are too few days to tell: no exchange is guessed.
    """
    fits = []
    for calendar in COMPARED:
        try:
            own = days_in.get(zone_of(calendar), days) if days_in else days
            fits.append(fit_of(calendar, own))
        except CalendarError:  # its holidays are not recorded that far back: it cannot be meant
            continue
    fits.sort(key=lambda fit: fit.misfits)
    good = [fit for fit in fits if fit.fits]
    if len(days) >= FEWEST_SESSIONS and good:
        others = [fit.misfits for fit in good[1:]]
        if all(n >= FEWEST_APART and n >= TOLD_APART * good[0].misfits for n in others):
            return good[0]
    told = "; ".join(fit.sentence for fit in (good or fits)[:4])
    raise CalendarError(
        f"calendar of {where}",
        expected=f"{FEWEST_SESSIONS} sessions or more that fit one of {', '.join(COMPARED)} and no other",
        found=f"{len(days)} days from {days[0]} to {days[-1]}, {'several fit' if good else 'none fits'} ({told})",
        action="say which it is: --calendar XNYS (any of exchange_calendars, 24/5 or 24/7) or --exchange NASDAQ",
    )
