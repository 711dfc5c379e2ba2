"""What a promoted model earned on the holdout: sessions that no decision was made by, until somebody looks.

A holdout is spent by looking at it. So it is opened for a promoted model alone, once the decision is in the ledger,
and each look is entered there before anybody sees a figure. The second look at a session chooses between models by
it, which the number of looks and the best Sharpe ratio that so many models without skill would show say.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from quant_assets.common.pages import ACCENT, FAN, figure_png, page_environment, png_data_uri, themed_figure
from quant_assets.gates.details import plain_json
from quant_assets.statistics import sharpe
from quant_assets.statistics.sharpe_inference import SharpeStandard, critical_value, sharpe_standard_error
from quant_assets.trading.path_figures import PathStatistics
from quant_assets.trading.paths import median_path, path_statistics


@dataclass(frozen=True)
class HoldoutLook:
    """One look at the holdout of a book of trials.

    Attributes
    ----------
    book : str
        Universe and label family.
    idea : str
        Digest of the code and configuration behind the model: retrained on newer bars it is the same idea.
    first, last : date
        Sessions whose returns were shown, both included.
    """

    book: str
    idea: str
    first: date
    last: date

    def overlaps(self, other: "HoldoutLook") -> bool:
        """Whether both saw a session."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class HoldoutPerformance:
    """A promoted model on the holdout, net of costs, beside what its cross-validation promised.

    Attributes
    ----------
    first, last : date
    n_sessions : int
    sharpe_annual, low, high : float
        Net, with its 95 % interval (normal, standard error of `sharpe_standard_error` at the observed ratio).
    return_fraction, drawdown_fraction : float
        Over the whole holdout; the latter <= 0.
    turnover_per_session : float
    promised_sharpe_annual : float
        Of the median path of cross-validation.
    p_value : float
        Probability of as low a ratio or a lower one, if the model's true one is the promised one: one-sided.
    look : int
        How many ideas of this market and label have now been seen on any of these sessions, this one included.
    untouched_sessions : int
        Of these sessions, those that no earlier look had shown.
    best_of_noise_sharpe_annual : float
        What the best of ``look`` independent models without skill shows on average on so many sessions.
    """

    first: date
    last: date
    n_sessions: int
    sharpe_annual: float
    low: float
    high: float
    return_fraction: float
    drawdown_fraction: float
    turnover_per_session: float
    promised_sharpe_annual: float
    p_value: float
    look: int
    untouched_sessions: int
    best_of_noise_sharpe_annual: float

    def to_json(self) -> dict[str, Any]:
        """Plain data; a number that does not exist is None."""
        days = {"first": self.first.isoformat(), "last": self.last.isoformat()}
        plain: dict[str, Any] = plain_json({**asdict(self), **days})
        return plain

    @property
    def sentence(self) -> str:
        """What the figures allow to say."""
        width = self.high - self.low
        said = f"{self.n_sessions} sessions: "
        if not np.isfinite(width):
            said += "a track that does not vary has no Sharpe ratio. "
        else:
            said += (
                f"the 95 % interval of the annual Sharpe ratio is {width:.1f} wide. As little as this, or less, is "
                f"seen in {self.p_value:.0%} of cases when the promised {self.promised_sharpe_annual:.2f} is true. "
            )
        if self.look == 1:
            return said + "First look at these sessions."
        return said + (
            f"Look {self.look}: {self.untouched_sessions} of the {self.n_sessions} sessions had not been seen. The "
            f"best of {self.look} models without skill would show {self.best_of_noise_sharpe_annual:.2f} here."
        )


def looks_before(
    look: HoldoutLook, earlier: Iterable[HoldoutLook], books: Iterable[str]
) -> list[HoldoutLook]:
    """Earlier looks at sessions of this one: of its market and label, at another idea.

    Parameters
    ----------
    look : HoldoutLook
    earlier : iterable of HoldoutLook
        In the order in which they were entered, none of them after this one.
    books : iterable of str
        The look's own book and those of the same market under another name (`TrialLedger.kin`).
    """
    same = {look.book, *books}
    return [e for e in earlier if e.book in same and e.idea != look.idea and e.overlaps(look)]


def holdout_performance(
    track: pl.DataFrame,
    paths: pl.DataFrame,
    periods_per_year: float,
    earlier: Iterable[HoldoutLook],
    *,
    standard: SharpeStandard = "2025",
) -> HoldoutPerformance:
    """Measure a track on the holdout.

    Parameters
    ----------
    track, paths : polars.DataFrame
        As made by `quant_assets.trading.paths.path_returns`: the holdout's one path, and those of cross-validation.
    periods_per_year : float
    earlier : iterable of HoldoutLook
        Looks at other ideas on any of these sessions (`looks_before`).
    standard : {"2012", "2025"}
        Of the Sharpe inference.

    Raises
    ------
    ValidationError
        As `path_statistics`.
    """
    (own,) = path_statistics(track, periods_per_year, standard=standard)
    promised = median_path(path_statistics(paths, periods_per_year, standard=standard))
    rho = own.autocorrelation if standard == "2025" else 0.0
    error = sharpe_standard_error(
        own.sharpe_per_period, own.n_sessions, own.skewness, own.kurtosis, standard, rho
    )
    reach = critical_value(0.025) * error
    low, high = (
        float(sharpe.annualised_sharpe(own.sharpe_per_period + side * reach, periods_per_year))
        for side in (-1.0, 1.0)
    )
    seen, sessions = list(earlier), track["session"].unique().sort()
    shown = pl.Series([any(e.first <= day <= e.last for e in seen) for day in sessions], dtype=pl.Boolean)
    models = 1 + len({e.idea for e in seen})
    noise = sharpe.expected_maximum_sharpe(models, 1.0 / own.n_sessions) if models > 1 else 0.0
    return HoldoutPerformance(
        first=sessions[0],
        last=sessions[-1],
        n_sessions=own.n_sessions,
        sharpe_annual=own.sharpe_annual,
        low=low,
        high=high,
        return_fraction=float(np.prod(1.0 + track["net_return"].to_numpy()) - 1.0),
        drawdown_fraction=own.drawdown_fraction,
        turnover_per_session=own.turnover_per_session,
        promised_sharpe_annual=promised.sharpe_annual,
        p_value=_as_low(own, promised, standard, rho),
        look=models,
        untouched_sessions=int((~shown).sum()),
        best_of_noise_sharpe_annual=float(sharpe.annualised_sharpe(noise, periods_per_year)),
    )


def _as_low(own: PathStatistics, promised: PathStatistics, standard: SharpeStandard, rho: float) -> float:
    """The probabilistic Sharpe ratio of the holdout against the promised one."""
    return float(
        sharpe.probabilistic_sharpe_ratio(
            own.sharpe_per_period,
            own.n_sessions,
            own.skewness,
            own.kurtosis,
            promised.sharpe_per_period,
            standard=standard,
            autocorrelation=rho,
        )
    )


def equity_plot(track: pl.DataFrame, paths: pl.DataFrame) -> str:
    """Net equity of cross-validation's paths up to the holdout and of the model in it, as a data URI."""
    with themed_figure(5.4, 2.9) as (figure, axes):
        ordered = track.sort("session")
        start = ordered["session"].item(0)
        shown = paths.filter(pl.col("session") < start).sort("path", "session")
        recent = shown["session"].unique().sort().tail(2 * ordered.height)
        for _, path in shown.filter(pl.col("session").is_in(recent.implode())).group_by(
            "path", maintain_order=True
        ):
            equity = (1.0 + path["net_return"]).cum_prod()
            axes.plot(
                path["session"].to_numpy(), (equity / equity.item(-1)).to_numpy(), color=FAN, linewidth=1.0
            )
        own = (1.0 + ordered["net_return"]).cum_prod()
        axes.plot(ordered["session"].to_numpy(), own.to_numpy(), color=ACCENT, label="holdout")
        axes.axhline(1.0, linewidth=0.8)
        axes.set_ylabel("net equity, 1 at its start")
        axes.legend(loc="upper left")
        figure.autofmt_xdate()
        return png_data_uri(figure_png(figure))


def holdout_page(found: HoldoutPerformance, *, strategy: str, subject: str, entry: int, plot: str) -> str:
    """The page: the figures, what they allow to say, and which look it was."""
    template = page_environment(Path(__file__).parent).get_template("holdout.html.j2")
    return template.render(found=found, strategy=strategy, subject=subject, entry=entry, plot=plot)
