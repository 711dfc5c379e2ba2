"""Labels of every kind: what followed a decision, in the form that a strategy asks for.

All start from the forward returns of `quant_assets.datasets.labels`: the same rows, entered at the next open, halts
and endings carried. A kind changes what is learnt of them, and where it ends earlier, its times.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.errors import DatasetError
from quant_assets.common.label_settings import (
    LabelConfig,
    MetaOptions,
    TrendScanningOptions,
    TripleBarrierOptions,
)
from quant_assets.common.universe_settings import LAST_CLOSE, DelistingConfig
from quant_assets.datasets.custom_labels import custom_labels, sides_of_a_rule
from quant_assets.datasets.labels import LABEL_COLUMNS, forward_return_labels
from quant_assets.features.as_known import FOUND_WRONG, as_known

KEYS = ("symbol", "session")
CLASS = pl.Int8  # a target of this type is a class; every other one is a number

# A fit that leaves less than this share of a window's variation has no standard error to speak of.
LINE = 1e-12


def make_labels(
    bars: pl.DataFrame,
    session_times: pl.DataFrame,
    label: LabelConfig,
    delisting: DelistingConfig = LAST_CLOSE,
) -> pl.DataFrame:
    """The labels that a strategy asks for.

    Parameters
    ----------
    bars, session_times, delisting
        As `quant_assets.datasets.labels.forward_return_labels`.
    label : LabelConfig

    Returns
    -------
    polars.DataFrame
        ``symbol, session, t0, t1, known_at, forward_return``, of the kinds ``return`` and ``direction`` that is all.
        Of every other ``target`` too: Float64 for a number, Int8 (0 or 1) for a class, and for ``meta`` the ``side``
        (Int8, -1 or 1). Sorted by (session, symbol).

    Raises
    ------
    DatasetError
        As `forward_return_labels`, and when a desk's own function breaks its contract.
    """
    base = forward_return_labels(
        bars, session_times, horizon_sessions=label.horizon_sessions, delisting=delisting
    )
    if label.kind in ("return", "direction"):
        return base
    if label.plugin is not None:
        made = custom_labels(bars, session_times, label, base, delisting)
    elif label.kind == "meta":
        made = _meta(base, bars, label.settings)
    elif label.kind == "volatility_scaled":
        made = _volatility_scaled(base, bars, label)
    else:
        path, horizon = _Path.of(bars, session_times, base), label.horizon_sessions
        made = (
            _triple_barrier(path, base, bars, label.settings, horizon)
            if label.kind == "triple_barrier"
            else _trend_scanning(path, base, label.settings, horizon)
        )
    if label.learnt_as == "direction":
        made = made.with_columns((pl.col("target") > 0).cast(CLASS))
    side = [name for name in ("side",) if name in made.columns]
    return made.select(*LABEL_COLUMNS, "target", *side).sort("session", "symbol")


def trailing_volatility(bars: pl.DataFrame, sessions: int) -> pl.DataFrame:
    """Standard deviation of the last daily returns of each name, as known at each close.

    Parameters
    ----------
    bars : polars.DataFrame
        ``symbol, session, close``; with ``known_at`` and ``found_wrong_at`` where it has bars that were found wrong.
    sessions : int
        Returns it is taken of: simple, close to close, of the name's own consecutive bars.

    Returns
    -------
    polars.DataFrame
        ``symbol, session, volatility`` (a session, sample standard deviation), null with fewer returns.
    """

    def by_symbol(known: pl.DataFrame) -> pl.DataFrame:
        volatility = pl.col("close").pct_change().rolling_std(sessions).over("symbol")
        return known.sort(KEYS).select(*KEYS, volatility=volatility)

    return as_known(bars, by_symbol) if FOUND_WRONG in bars.columns else by_symbol(bars)


def _with_volatility(base: pl.DataFrame, bars: pl.DataFrame, sessions: int) -> pl.DataFrame:
    """Rows whose volatility is known and not zero: without it there is no unit."""
    return base.join(trailing_volatility(bars, sessions), on=KEYS).filter(pl.col("volatility") > 0.0)


def _volatility_scaled(base: pl.DataFrame, bars: pl.DataFrame, label: LabelConfig) -> pl.DataFrame:
    rows = _with_volatility(base, bars, label.settings.volatility_sessions)
    unit = pl.col("volatility") * sqrt(label.horizon_sessions)
    return rows.with_columns(target=pl.col("forward_return") / unit)


def _meta(base: pl.DataFrame, bars: pl.DataFrame, options: MetaOptions) -> pl.DataFrame:
    """Whether the side of the primary rule made money: 1, else 0; without a side there is no bet and no label."""
    if options.feature is not None:
        from quant_assets.features import compute

        values = compute(bars, options.feature.pack)
        if options.feature.name not in values.columns:
            raise DatasetError(
                "option feature of label.kind: meta",
                expected=f"one of {', '.join(values.columns[2:])}, of pack {options.feature.pack}",
                found=repr(options.feature.name),
                action="correct the name",
            )
        side = values.select(*KEYS, side=pl.col(options.feature.name).sign())
    else:
        side = sides_of_a_rule(bars, options)
    rows = base.join(side.with_columns(pl.col("side").cast(CLASS)), on=KEYS).filter(pl.col("side") != 0)
    return rows.with_columns(target=(pl.col("side") * pl.col("forward_return")).cast(pl.Float64))


# ------------------------------------------------------------------------------------- what happens in between


@dataclass(frozen=True)
class _Path:
    """Closes and entries of the labelled rows.

    Attributes
    ----------
    closes : ndarray of float64, shape (symbols, sessions)
        NaN where a name has no bar, or one that was found wrong.
    symbol, session : ndarray of int64, shape (rows,)
        Where each row stands in it.
    entry : ndarray of float64, shape (rows,)
        Open of the session after the decision.
    close_at : polars.Series
        Of each session.
    """

    closes: NDArray[np.float64]
    symbol: NDArray[np.int64]
    session: NDArray[np.int64]
    entry: NDArray[np.float64]
    close_at: pl.Series

    @classmethod
    def of(cls, bars: pl.DataFrame, session_times: pl.DataFrame, base: pl.DataFrame) -> "_Path":
        days = session_times.sort("session")
        names = bars["symbol"].unique().sort()
        where = bars.select(
            "open",
            "close",
            row=names.search_sorted(bars["symbol"]).cast(pl.Int64),
            column=days["session"].search_sorted(bars["session"]).cast(pl.Int64),
            good=pl.col(FOUND_WRONG).is_null() if FOUND_WRONG in bars.columns else pl.lit(value=True),
        )
        shape = (len(names), days.height)
        opens, closes = np.full(shape, np.nan), np.full(shape, np.nan)
        row, column, good = (where[n].to_numpy() for n in ("row", "column", "good"))
        opens[row, column] = where["open"].to_numpy()
        closes[row[good], column[good]] = where["close"].to_numpy()[good]
        symbol = names.search_sorted(base["symbol"]).cast(pl.Int64).to_numpy()
        session = days["session"].search_sorted(base["session"]).cast(pl.Int64).to_numpy()
        return cls(closes, symbol, session, opens[symbol, session + 1], days["close_at"])

    def close(self, ahead: int) -> NDArray[np.float64]:
        """Close of each row's name so many sessions after the decision; NaN where there is none."""
        column = self.session + ahead
        last = self.closes.shape[1] - 1
        found = self.closes[self.symbol, np.minimum(column, last)]
        return np.where(column <= last, found, np.nan)


def _triple_barrier(
    path: _Path, base: pl.DataFrame, bars: pl.DataFrame, options: TripleBarrierOptions, horizon: int
) -> pl.DataFrame:
    """Which barrier the closes touch first (Lopez de Prado 2018, snippets 3.2 to 3.5).

    A barrier lies at ``entry * (1 + profit_taking * volatility)`` or ``entry * (1 - stop_loss * volatility)``, with
    the daily volatility known at the decision. Closes of the sessions t+1 to t+h are compared with it. A label that
    is touched ends at that close, its ``t1``; any other one ends as the forward return does. All are known when the
    forward return is: at the end of a training window, rows that were touched early would be trained on and the
    others not, so that which rows are there would tell of what followed.
    """
    known = base.select(KEYS).join(
        trailing_volatility(bars, options.volatility_sessions), on=KEYS, how="left", maintain_order="left"
    )
    volatility = known["volatility"].fill_null(0.0).to_numpy()
    up, down = np.full((2, base.height), [[np.inf], [-np.inf]])  # a side without a barrier
    if options.profit_taking is not None:
        up = 1.0 + options.profit_taking * volatility
    if options.stop_loss is not None:
        down = 1.0 - options.stop_loss * volatility
    touched, at = np.zeros((2, base.height), dtype=np.int64)
    ratio_at = np.full(base.height, np.nan)
    for ahead in range(1, horizon + 1):
        ratio = path.close(ahead) / path.entry
        side = (ratio >= up).astype(np.int64) - (ratio <= down).astype(np.int64)
        first = (touched == 0) & (side != 0)
        touched[first], at[first], ratio_at[first] = side[first], ahead, ratio[first]
    hit = pl.Series(touched != 0)
    ends = path.close_at.gather(path.session + at)
    vertical = pl.col("forward_return").sign() if options.vertical == "sign" else pl.lit(0.0)
    return base.with_columns(
        t1=pl.when(hit).then(ends).otherwise("t1"),
        target=pl.when(hit).then(pl.Series(touched).cast(pl.Float64)).otherwise(vertical),
        forward_return=pl.when(hit).then(pl.Series(ratio_at) - 1.0).otherwise("forward_return"),
    ).filter(pl.Series(np.asarray(volatility > 0.0)))


def _trend_scanning(
    path: _Path, base: pl.DataFrame, options: TrendScanningOptions, horizon: int
) -> pl.DataFrame:
    """The t-value of the strongest linear trend of closes (Lopez de Prado 2020, snippets 5.1 and 5.2).

    Ordinary least squares of the closes of the sessions t to t+L on 0..L, for every L from ``shortest_sessions`` to
    the horizon; the label is the t-value of the slope that is largest in absolute value. A window ends at a close, so
    that of a name that ends the last one ends with it. A window whose closes lie on one line has no standard error
    and no t-value.

    Which window is the strongest is known when the longest has ended, so the label has the ``t1`` of the forward
    return, not that of its window as in the book: closes after the window have shaped it.
    """
    start = path.close(0)
    n, x, xx, y, xy, yy = np.zeros((6, base.height))
    best = np.full(base.height, np.nan)
    for ahead in range(horizon + 1):
        # From the first close on, and relative to it: the t-value is the same, and nothing cancels.
        value = path.close(ahead) / start - 1.0
        there = np.isfinite(value)
        value = np.where(there, value, 0.0)
        n += there
        x += there * ahead
        xx += there * ahead**2
        y += value
        xy += value * ahead
        yy += value**2
        if ahead < options.shortest_sessions:
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            sxx, sxy, syy = xx - x * x / n, xy - x * y / n, yy - y * y / n
            slope = sxy / sxx
            left = syy - slope * sxy
            t_value = slope / np.sqrt(left / (n - 2.0) / sxx)
        usable = there & (n >= 3) & (left > LINE * syy) & np.isfinite(t_value)
        stronger = usable & ~(np.abs(t_value) <= np.abs(best))
        best = np.where(stronger, t_value, best)
    return base.with_columns(target=pl.Series(best)).filter(pl.Series(np.isfinite(best)))
