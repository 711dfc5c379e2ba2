"""Labels by a desk's own function, and the contract that they keep before anything is learnt from them."""

import inspect
from collections.abc import Callable
from typing import Any

import polars as pl

from quant_assets.common.errors import DatasetError
from quant_assets.common.label_settings import LabelConfig, MetaOptions
from quant_assets.common.universe_settings import LAST_CLOSE, DelistingConfig

KEYS = ("symbol", "session")
TIMES = ("t0", "t1", "known_at")
COLUMNS = (*KEYS, *TIMES, "target")


def label_function(label: LabelConfig) -> Callable[..., Any]:
    """The function that a label of the desk's own names, when it takes the options.

    Raises
    ------
    ConfigurationError
        When it cannot be imported.
    DatasetError
        When it is no function, or does not take what it would be called with.
    """
    plugin = label.plugin
    if plugin is None:
        raise TypeError(f"{label.kind} is a kind of the platform's own")
    found: Callable[..., Any] = plugin.load("a label")
    _require_call(found, f"label {plugin.text}", "bars, sessions", {"horizon_sessions": 1, **plugin.options})
    return found


def _require_call(found: Any, what: str, positional: str, named: dict[str, Any]) -> None:
    try:
        inspect.signature(found).bind(*positional.split(", "), **named)
    except TypeError as error:  # that of an object that is no function, too
        raise DatasetError(
            what,
            expected=f"a function that can be called as f({positional}, {', '.join(f'{n}=...' for n in named)})",
            found=str(error),
            action="correct the function's parameters, or the options",
        ) from error


def raw_labels(
    bars: pl.DataFrame,
    session_times: pl.DataFrame,
    label: LabelConfig,
    delisting: DelistingConfig = LAST_CLOSE,
) -> pl.DataFrame:
    """What a desk's function says of these bars, in the form of labels.

    Parameters
    ----------
    bars, session_times, delisting
        As `quant_assets.datasets.labels.forward_return_labels`. ``delisting`` reaches a function that has a parameter
        of that name.
    label : LabelConfig
        One that names a function.

    Returns
    -------
    polars.DataFrame
        ``symbol, session, t0, t1, known_at, target`` (Float64), sorted by (session, symbol).

    Raises
    ------
    DatasetError
        When the function fails, or its result breaks the contract: one row a key, each of a bar; ``t0`` the close of
        the row's session; ``t0 < t1 <= known_at``; ``t1`` in a session of the calendar whose bar is published by
        ``known_at``; a finite target, of a class 0 or 1.
    """
    function = label_function(label)
    options: dict[str, Any] = {"horizon_sessions": label.horizon_sessions, **label.options}
    if "delisting" in inspect.signature(function).parameters:
        options["delisting"] = delisting
    what = f"label {label.kind}"
    try:
        # A copy of the frame: what a function does to its own reaches nobody.
        found = function(bars.clone(), session_times.clone(), **options)
    except Exception as error:  # a desk's function may raise anything
        raise DatasetError(
            what,
            expected=f"a frame {', '.join(COLUMNS)}",
            found=f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}",
            action="correct the function",
        ) from error
    frame = _typed(found, bars, session_times, what)
    _require_contract(frame, bars, session_times, what, classes=label.learnt_as == "direction")
    return frame.sort("session", "symbol")


def custom_labels(
    bars: pl.DataFrame,
    session_times: pl.DataFrame,
    label: LabelConfig,
    base: pl.DataFrame,
    delisting: DelistingConfig = LAST_CLOSE,
) -> pl.DataFrame:
    """`raw_labels` beside the forward return of the same rows.

    Rows without one are left out: nothing could be bought at the next open, or the outcome is not known yet. A label
    is known when the forward return is, or later: else which rows of the last sessions are trained on would tell of
    what followed.

    Raises
    ------
    DatasetError
        As `raw_labels`, and for a label that ends later than the horizon says (a halt or an ending may make it
        later), or no label that can be traded.
    """
    raw = raw_labels(bars, session_times, label, delisting)
    made = raw.join(base.select(*KEYS, "forward_return", _end="t1", _known="known_at"), on=KEYS)
    days = session_times.sort("session")
    due = days["session"].search_sorted(made["session"]).cast(pl.Int64) + 1 + label.horizon_sessions
    closes = days["close_at"].gather(due.clip(0, days.height - 1))
    late = made.filter(pl.col("t1") > pl.max_horizontal(closes, "_end"))
    if late.height:
        _refuse(
            f"label {label.kind}",
            f"t1 by the close of session t+1+horizon_sessions ({label.horizon_sessions}): purging and embargo count "
            "on it",
            late,
            "t1",
            "raise horizon_sessions, or end the label earlier",
        )
    if made.is_empty():
        raise DatasetError(
            f"label {label.kind}",
            expected="labels of rows that can be entered at the next open and left at the horizon",
            found=f"none among {raw.height}",
            action="label the bars that are there, or widen the universe's dates",
        )
    return made.with_columns(known_at=pl.max_horizontal("known_at", "_known")).drop("_end", "_known")


def sides_of_a_rule(bars: pl.DataFrame, options: MetaOptions) -> pl.DataFrame:
    """``symbol, session, side`` (-1, 0, 1) of the primary rule of a meta-label.

    Raises
    ------
    DatasetError
        When it fails, or gives anything else.
    """
    rule = options.rule
    if rule is None:
        raise TypeError("a meta-label without a rule")
    function, what = rule.load("a primary rule"), f"primary rule {rule.text}"
    _require_call(function, what, "bars", dict(rule.options))
    found = _polars(function(bars.clone(), **rule.options), what)
    lacking = [name for name in (*KEYS, "side") if name not in found.columns]
    if lacking or not found["side"].is_in([-1, 0, 1]).all() or found.select(KEYS).is_duplicated().any():
        raise DatasetError(
            what,
            expected="a frame symbol, session, side with one row a bar and sides of -1, 0 and 1",
            found=f"no column {', '.join(lacking)}" if lacking else "other sides, nulls, or a bar twice",
            action="correct the rule",
        )
    schema = {name: bars.schema[name] for name in KEYS}
    return found.select(*(pl.col(name).cast(kind) for name, kind in schema.items()), "side")


def _polars(found: Any, what: str) -> pl.DataFrame:
    if isinstance(found, pl.LazyFrame):
        return found.collect()
    if isinstance(found, pl.DataFrame):
        return found
    if type(found).__module__.partition(".")[0] == "pandas" and hasattr(found, "columns"):
        named = [name for name in found.index.names if name is not None]
        converted: pl.DataFrame = pl.from_pandas(found.reset_index() if named else found)
        return converted
    raise DatasetError(
        what,
        expected="a polars or pandas frame",
        found=type(found).__name__,
        action="return a frame",
    )


def _typed(found: Any, bars: pl.DataFrame, session_times: pl.DataFrame, what: str) -> pl.DataFrame:
    frame = _polars(found, what)
    lacking = [name for name in COLUMNS if name not in frame.columns]
    if lacking:
        raise DatasetError(
            what,
            expected=f"the columns {', '.join(COLUMNS)}",
            found=f"no {', '.join(lacking)} among {', '.join(frame.columns)}",
            action="return these columns",
        )
    moment = session_times.schema["close_at"]
    try:
        for name in TIMES:
            zone = getattr(frame.schema[name], "time_zone", None)
            if zone is None:
                raise DatasetError(
                    f"{what}, column {name!r}",
                    expected="times with a zone, as close_at and open_at of the sessions have them (UTC)",
                    found=f"dtype {frame.schema[name]}",
                    action="take the times from the frame of sessions",
                )
        return frame.select(
            pl.col("symbol").cast(pl.String),
            pl.col("session").cast(bars.schema["session"]),
            *(pl.col(name).dt.convert_time_zone("UTC").cast(moment) for name in TIMES),
            pl.col("target").cast(pl.Float64),
        )
    except pl.exceptions.PolarsError as error:
        raise DatasetError(
            what,
            expected="symbol text, session a date, target a number",
            found=str(error).strip().partition("\n")[0],
            action="correct the types",
        ) from error


def _require_contract(
    frame: pl.DataFrame, bars: pl.DataFrame, session_times: pl.DataFrame, what: str, *, classes: bool
) -> None:
    nulls = frame.filter(pl.any_horizontal(pl.all().is_null()) | ~pl.col("target").is_finite())
    if nulls.height:
        _refuse(what, "a value in every column, the target finite", nulls, "target", "leave such rows out")
    rows = frame.join(bars.select(KEYS).unique(), on=KEYS, how="anti")
    if rows.height:
        _refuse(what, "rows of bars", rows, "target", "label the bars that are there")
    twice = frame.filter(frame.select(KEYS).is_duplicated())
    if twice.height:
        _refuse(what, "one row for each symbol and session", twice, "target", "decide which one is right")
    days = session_times.sort("session")
    timed = frame.join(days.select("session", "close_at"), on="session", how="left")
    # The bar that ends it: of the first session that closes at t1 or later.
    index = days["close_at"].search_sorted(timed["t1"], side="left").cast(pl.Int64)
    published = days["close_at"].gather(index.clip(0, days.height - 1))
    timed = timed.with_columns(published=published, _beyond=index >= days.height)
    rules = (
        (
            pl.col("t0") == pl.col("close_at"),
            "t0",
            "t0 at the close of the row's own session: that is the decision",
            "take t0 from close_at of the sessions",
        ),
        (pl.col("t1") > pl.col("t0"), "t1", "t1 after t0", "end the label after the decision"),
        (
            ~pl.col("_beyond"),
            "t1",
            f"t1 by the last session, {days['session'][-1]}",
            "leave out rows whose outcome is not known yet",
        ),
        (
            pl.col("known_at") >= pl.col("published"),
            "known_at",
            "known_at not before the close of the session that t1 lies in: its bar does not exist earlier",
            "set known_at to close_at of the session in which the label ends",
        ),
    )
    for good, column, expected, action in rules:
        bad = timed.filter(~good)
        if bad.height:
            _refuse(what, expected, bad, column, action)
    strange = frame.filter(~pl.col("target").is_in([0.0, 1.0]))
    if classes and strange.height:
        _refuse(what, "targets of 0 and 1, for target: class", strange, "target", "or write target: number")


def _refuse(what: str, expected: str, rows: pl.DataFrame, column: str, action: str) -> None:
    row = rows.row(0, named=True)
    raise DatasetError(
        what,
        expected=expected,
        found=f"{column} {row[column]} for symbol {row['symbol']!r} in session {row['session']}"
        + (f" and {rows.height - 1} more rows" if rows.height > 1 else ""),
        action=action,
    )
