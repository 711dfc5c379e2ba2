"""Backtest paths: from out-of-sample predictions to net returns, and the statistics of each path.

Paths of one cross-validation share their sessions and much of their data. They are a distribution, never more
observations: everything inferential uses the sessions of one path.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.errors import ValidationError
from quant_assets.common.settings import LAST_CLOSE, CostConfig, DelistingConfig, PortfolioConfig
from quant_assets.statistics import sharpe, track_record
from quant_assets.trading.path_figures import PathStatistics
from quant_assets.trading.portfolio import Track, decided, track, unknown_ends

TWICE = "net_return_at_twice_costs"


def path_returns(
    predictions: pl.DataFrame,
    bars: pl.DataFrame,
    portfolio: PortfolioConfig,
    costs: CostConfig,
    delisting: DelistingConfig = LAST_CLOSE,
) -> pl.DataFrame:
    """Net returns of trading each path's predictions, as `quant_assets.trading.portfolio.simulate` gives.

    Parameters
    ----------
    predictions : polars.DataFrame
        ``symbol, session, path_0 .. path_{P-1}``: one row per (symbol, session), scores without null or NaN.
    bars : polars.DataFrame
        Adjusted panel.

    Raises
    ------
    ValidationError
        When predictions break their contract, or do not belong to the bars.
    """
    return path_track(predictions, bars, portfolio, costs, delisting).frame


def path_track(
    predictions: pl.DataFrame,
    bars: pl.DataFrame,
    portfolio: PortfolioConfig,
    costs: CostConfig,
    delisting: DelistingConfig = LAST_CLOSE,
) -> Track:
    """As `path_returns`, with the weights behind them."""
    _check_predictions(predictions)
    return track(predictions, bars, portfolio, costs, delisting)


@dataclass(frozen=True)
class UnknownEnds:
    """What the book is worth by what names return of whose end nobody says what it returned.

    Attributes
    ----------
    n_ended : int
        Names of the panel that ended.
    names : tuple of str
        Those whose final return is not known.
    stand_in : float
        What they are taken to return.
    sharpe_annual : dict of float to float
        The median over paths, net, by what they return instead: 0, the stand-in, -1.
    """

    n_ended: int
    names: tuple[str, ...]
    stand_in: float
    sharpe_annual: dict[float, float]

    @property
    def sentence(self) -> str:
        """For people."""
        ratios = ", ".join(f"{ratio:.2f} at {value:+.0%}" for value, ratio in self.sharpe_annual.items())
        return (
            f"{self.n_ended} names ended; of {len(self.names)} nobody says what they returned at last, and "
            f"{self.stand_in:+.0%} stands in for it. Median net Sharpe ratio by what that was: {ratios}."
        )

    def table(self) -> pl.DataFrame:
        """A row for each return that they might have had."""
        ratios = self.sharpe_annual
        return pl.DataFrame(
            {"final_return": list(ratios), "median_net_sharpe_annual": list(ratios.values())},
            schema={"final_return": pl.Float64, "median_net_sharpe_annual": pl.Float64},
        )


def unknown_end_sharpes(
    predictions: pl.DataFrame,
    bars: pl.DataFrame,
    portfolio: PortfolioConfig,
    costs: CostConfig,
    delisting: DelistingConfig,
    periods_per_year: float,
) -> UnknownEnds | None:
    """Trade the paths again with other returns of the names whose final one is not known; None where there is none.

    Parameters
    ----------
    predictions, bars, portfolio, costs, delisting
        As for `path_returns`. Names whose listing says what they returned keep that.
    periods_per_year : float
    """
    n_ended, names = unknown_ends(bars, delisting)
    if not names:
        return None
    ratios, wanted = {}, decided(predictions, bars, portfolio, costs)
    for value in sorted({0.0, delisting.final_return, -1.0}, reverse=True):
        other = delisting.model_copy(update={"final_return": value})
        traded = track(predictions, bars, portfolio, costs, other, wanted)
        each = [
            sharpe.annualised_sharpe(sharpe.sharpe_ratio(path["net_return"].to_numpy()), periods_per_year)
            for path in traded.frame.partition_by("path")
        ]
        ratios[value] = float(np.median(each))
    return UnknownEnds(n_ended, tuple(names), delisting.final_return, ratios)


def path_columns(predictions: pl.DataFrame) -> list[str]:
    """The score columns ``path_0 .. path_{P-1}``, in order of their numbers.

    Raises
    ------
    ValidationError
        When there is none, or the numbers have a gap.
    """
    names = [name for name in predictions.columns if name.startswith("path_")]
    expected = [f"path_{i}" for i in range(len(names))]
    if not names or set(names) != set(expected):
        raise _bad_predictions("columns path_0, path_1, ... without a gap", f"columns {predictions.columns}")
    return expected


def _check_predictions(predictions: pl.DataFrame) -> None:
    names = path_columns(predictions)
    holes = predictions.filter(
        pl.any_horizontal(pl.col(name).is_null() | ~pl.col(name).is_finite() for name in names)
    )
    if holes.height:
        row = holes.row(0, named=True)
        raise _bad_predictions(
            "a finite score of every path in every row",
            f"{holes.height} rows without, the first {row['symbol']} on {row['session']}",
        )
    twins = predictions.filter(pl.struct("symbol", "session").is_duplicated())
    if twins.height:
        row = twins.row(0, named=True)
        raise _bad_predictions("one row per (symbol, session)", f"{row['symbol']} on {row['session']} again")


def _bad_predictions(expected: str, found: str) -> ValidationError:
    return ValidationError(
        "predictions", expected=expected, found=found, action="materialise the cross-validation again"
    )


def rank_ic_by_session(predictions: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """Rank correlation of scores and realised returns over the symbols of each session.

    Parameters
    ----------
    predictions : polars.DataFrame
        ``symbol, session, path_*``.
    labels : polars.DataFrame
        ``symbol, session, forward_return``.

    Returns
    -------
    polars.DataFrame
        ``path`` (Int32), ``session``, ``rank_ic`` (Spearman, -1 to 1), ``n_symbols``, sorted by (path,
        session). Sessions with fewer than two symbols, or with scores or returns all equal, have no rank
        correlation and no row.
    """
    joined = predictions.join(
        labels.select("symbol", "session", "forward_return"), on=["symbol", "session"]
    ).sort("session", "symbol")
    ranked = joined.with_columns(pl.col("forward_return").rank().over("session"))
    frames = [
        ranked.with_columns(pl.col(name).rank().over("session"))
        .group_by("session")
        .agg(pl.corr(name, "forward_return").alias("rank_ic"), pl.len().cast(pl.Int32).alias("n_symbols"))
        .filter(pl.col("rank_ic").is_finite())
        .select(pl.lit(index, dtype=pl.Int32).alias("path"), "session", "rank_ic", "n_symbols")
        for index, name in enumerate(path_columns(predictions))
    ]
    return pl.concat(frames).sort("path", "session")


def information_coefficients(
    predictions: pl.DataFrame, labels: pl.DataFrame, *, horizon_sessions: int
) -> pl.DataFrame:
    """Mean rank IC of each path, with a t-statistic that allows for overlapping labels.

    Parameters
    ----------
    predictions, labels : polars.DataFrame
        As for `rank_ic_by_session`.
    horizon_sessions : int
        Sessions that a label spans: labels of neighbouring sessions share most of their return, and that is all
        that there is of a record which is not longer.

    Returns
    -------
    polars.DataFrame
        ``path, mean_rank_ic, rank_ic_sd, t_statistic, p_value, n_sessions``, one row per path that has any session
        with a rank correlation; test of `quant_assets.statistics.overfitting.dependent_mean`, null on a record of
        fewer sessions than twice the horizon or than that test needs.
    """
    from quant_assets.statistics.overfitting import FEWEST_FOR_MEAN, dependent_mean

    rows = []
    for (path,), group in rank_ic_by_session(predictions, labels).group_by("path", maintain_order=True):
        series = group["rank_ic"].to_numpy()
        enough = len(series) >= max(2 * horizon_sessions, FEWEST_FOR_MEAN)
        test = dependent_mean(series) if enough else None
        rows.append(
            {
                "path": path,
                "mean_rank_ic": float(series.mean()),
                "rank_ic_sd": float(series.std(ddof=1)) if len(series) > 1 else None,
                "t_statistic": test.statistic if test else None,
                "p_value": test.p_value if test else None,
                "n_sessions": len(series),
            }
        )
    schema = {
        "path": pl.Int32,
        "mean_rank_ic": pl.Float64,
        "rank_ic_sd": pl.Float64,
        "t_statistic": pl.Float64,
        "p_value": pl.Float64,
        "n_sessions": pl.Int64,
    }
    return pl.DataFrame(rows, schema=schema).with_columns(pl.col("t_statistic", "p_value").fill_nan(None))


def path_statistics(
    returns: pl.DataFrame, periods_per_year: float, *, standard: sharpe.SharpeStandard = "2025"
) -> tuple[PathStatistics, ...]:
    """Statistics of each path, in order of path.

    Parameters
    ----------
    returns : polars.DataFrame
        As made by `path_returns`.
    periods_per_year : float
        Sessions per year, from the calendar.
    standard : {"2012", "2025"}
        Of the probabilistic Sharpe ratio; ``2025`` allows for autocorrelation.

    Raises
    ------
    ValidationError
        When a return is not finite, there is no path, or the paths differ in their sessions.
    """
    groups = returns.sort("path", "session").partition_by("path", maintain_order=True)
    if not groups:
        raise _bad_returns("at least one path", "none")
    for group in groups:
        if not group["session"].equals(groups[0]["session"]) or group["session"].is_duplicated().any():
            raise _bad_returns(
                "paths over the same sessions, each once",
                f"path {group['path'][0]} with {group.height}, path {groups[0]['path'][0]} with {groups[0].height}",
            )
        if not all(group[name].is_finite().all() for name in ("net_return", "gross_return", "turnover")):
            raise _bad_returns("finite returns", f"a null or NaN in path {group['path'][0]}")
    return tuple(_statistics(group, periods_per_year, standard) for group in groups)


def _statistics(
    group: pl.DataFrame, periods_per_year: float, standard: sharpe.SharpeStandard
) -> PathStatistics:
    net: NDArray[np.float64] = group["net_return"].to_numpy()
    ratio = sharpe.sharpe_ratio(net)
    skewness, kurtosis = sharpe.moments(net)
    rho = autocorrelation(net)
    return PathStatistics(
        path=int(group["path"][0]),
        n_sessions=len(net),
        sharpe_per_period=ratio,
        sharpe_annual=sharpe.annualised_sharpe(ratio, periods_per_year),
        gross_sharpe_annual=sharpe.annualised_sharpe(
            sharpe.sharpe_ratio(group["gross_return"].to_numpy()), periods_per_year
        ),
        psr=sharpe.probabilistic_sharpe_ratio(
            ratio,
            len(net),
            skewness,
            kurtosis,
            standard=standard,
            autocorrelation=rho if standard == "2025" else 0.0,
        ),
        drawdown_fraction=float(track_record.max_drawdown(net)),
        annual_return_fraction=float(track_record.annual_return(net, periods_per_year)),
        annual_volatility_fraction=float(track_record.annual_volatility(net, periods_per_year)),
        win_rate_fraction=float(track_record.win_rate(net)),
        sortino=float(sharpe.annualised_sharpe(track_record.sortino_ratio(net), periods_per_year)),
        calmar=float(track_record.calmar_ratio(net, periods_per_year)),
        turnover_per_session=float(group["turnover"].to_numpy().mean()),
        skewness=skewness,
        kurtosis=kurtosis,
        autocorrelation=rho,
        sharpe_annual_at_twice_costs=sharpe.annualised_sharpe(
            sharpe.sharpe_ratio(group[TWICE].to_numpy()), periods_per_year
        )
        if TWICE in group.columns
        else float("nan"),
    )


def autocorrelation(returns: NDArray[np.float64]) -> float:
    """First-order autocorrelation; NaN for returns that do not vary."""
    deviations = returns - returns.mean()
    total = float((deviations * deviations).sum())
    return float((deviations[1:] * deviations[:-1]).sum()) / total if total > 0.0 else float("nan")


def median_path(statistics: Sequence[PathStatistics]) -> PathStatistics:
    """The path with the median Sharpe ratio: the lower one of two, the lower number among equals.

    A path without a Sharpe ratio (no variance) counts as the worst.
    """
    if not statistics:
        raise _bad_returns("at least one path", "none")

    def order(path: PathStatistics) -> tuple[bool, float, int]:
        missing = bool(np.isnan(path.sharpe_per_period))
        return (not missing, 0.0 if missing else path.sharpe_per_period, path.path)

    return sorted(statistics, key=order)[(len(statistics) - 1) // 2]


def _bad_returns(expected: str, found: str) -> ValidationError:
    return ValidationError(
        "path returns", expected=expected, found=found, action="materialise the cross-validation again"
    )
