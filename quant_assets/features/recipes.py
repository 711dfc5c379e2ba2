"""Features as people write them: polars expressions, or plain functions of one symbol's bars or of one session.

A stage sees the rows of one group alone, one symbol or one session, so that nothing can reach across. What a function
gives back is checked against the rows that it was given: one value for each, in their order.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.errors import FeatureError

Group = Literal["symbol", "session"]
Takes = Literal["pandas", "numpy", "polars"]
INDEX: Mapping[Group, str] = {"symbol": "session", "session": "symbol"}


class Calculation(Protocol):
    """Columns of a frame, group by group."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of what it makes, in order."""

    def values(self, rows: pl.DataFrame, group: Group) -> pl.DataFrame:
        """Float64 columns, one value for each row; null and NaN where there is none.

        Raises
        ------
        FeatureError
            With the column and the group, when it fails or its result does not belong to the rows.
        """

    def formula(self, column: str) -> str:
        """What it computes, as text."""

    def reads(self, column: str) -> frozenset[str]:
        """Which columns of its rows one of its own is made of."""


@dataclass(frozen=True)
class Expressions:
    """Polars expressions, by the name of what they make. A later one may read an earlier one.

    Parameters
    ----------
    named : tuple of (str, polars.Expr)
    """

    named: tuple[tuple[str, pl.Expr], ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """As `Calculation`."""
        return tuple(name for name, _ in self.named)

    @cached_property
    def _batches(self) -> list[list[tuple[str, pl.Expr]]]:
        """Expressions in groups that read nothing of their own group."""
        batches: list[list[tuple[str, pl.Expr]]] = [[]]
        for name, expression in self.named:
            if set(expression.meta.root_names()) & {held for held, _ in batches[-1]}:
                batches.append([])
            batches[-1].append((name, expression))
        return batches

    def values(self, rows: pl.DataFrame, group: Group) -> pl.DataFrame:
        """As `Calculation`."""
        if group == "session":
            made = self._of(rows, lambda e: e.over("session"), "one of the sessions")
        else:
            parts = rows.partition_by("symbol", maintain_order=True)
            made = pl.concat([self._of(p, lambda e: e, f"symbol {p['symbol'][0]!r}") for p in parts])
        return _numbers(made.select(self.columns), self.columns)

    def _of(self, rows: pl.DataFrame, within: Callable[[pl.Expr], pl.Expr], where: str) -> pl.DataFrame:
        for batch in self._batches:
            try:
                # Not one by one: polars shares what several of them have in common.
                rows = rows.with_columns(within(e).alias(name) for name, e in batch)
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
                name, why = self._culprit(rows, batch, within) or (batch[0][0], error)
                raise FeatureError(
                    f"feature {name!r}",
                    expected=f"an expression over {', '.join(rows.columns)} with one value for each row",
                    found=f"{type(why).__name__}: {_first_line(why)} ({where})",
                    action="correct the expression",
                ) from error
        return rows

    @staticmethod
    def _culprit(
        rows: pl.DataFrame, batch: Sequence[tuple[str, pl.Expr]], within: Callable[[pl.Expr], pl.Expr]
    ) -> tuple[str, BaseException] | None:
        for name, expression in batch:
            try:
                rows.with_columns(within(expression).alias(name))
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
                return name, error
        return None

    def formula(self, column: str) -> str:
        """As `Calculation`."""
        return str(dict(self.named)[column])

    def reads(self, column: str) -> frozenset[str]:
        """As `Calculation`."""
        return frozenset(dict(self.named)[column].meta.root_names())


@dataclass(frozen=True)
class PlainFunction:
    """A function of the rows of one symbol, or of one session.

    Parameters
    ----------
    function : callable
        Called with the rows of one group; gives one value for each row and column: a frame, a mapping of arrays, or
        for one column an array or series.
    columns : tuple of str
    takes : {"pandas", "numpy", "polars"}
        A pandas frame indexed by the session (of one symbol) or the symbol (of one session); a dict of arrays; or a
        polars frame. Without nulls: what is masked is NaN.
    """

    function: Callable[..., Any]
    columns: tuple[str, ...]
    takes: Takes = "pandas"

    @property
    def name(self) -> str:
        """``module.name`` of the function."""
        return f"{self.function.__module__}.{getattr(self.function, '__qualname__', '?')}"

    def values(self, rows: pl.DataFrame, group: Group) -> pl.DataFrame:
        """As `Calculation`."""
        order = (
            np.arange(rows.height)
            if group == "symbol"
            else np.lexsort(
                (rows["symbol"].rank("dense").to_numpy(), rows["session"].to_physical().to_numpy())
            )
        )
        ordered = rows[order]
        parts = [self._of(part, group) for part in ordered.partition_by(group, maintain_order=True)]
        made = {name: np.concatenate([part[name] for part in parts]) for name in self.columns}
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return _numbers(pl.DataFrame({name: values[back] for name, values in made.items()}), self.columns)

    def _of(self, part: pl.DataFrame, group: Group) -> dict[str, NDArray[np.float64]]:
        where = f"{group} {part[group][0]}"
        given = self._given(part, group)
        try:
            with warnings.catch_warnings():
                # Rows that warm up have no value, and numpy says so of each mean of them.
                warnings.simplefilter("ignore", RuntimeWarning)
                found = self.function(given)
        except Exception as error:  # a desk's function may raise anything
            raise FeatureError(
                f"feature function {self.name}, {where}",
                expected=f"{', '.join(self.columns)} of {part.height} rows",
                found=f"{type(error).__name__}: {_first_line(error)}",
                action="correct the function",
            ) from error
        return dict(self._aligned(found, part, group, where))

    def _given(self, part: pl.DataFrame, group: Group) -> Any:
        index = INDEX[group]
        if self.takes == "polars":
            return part.with_columns(pl.col(pl.Float64).fill_null(float("nan")))
        # Copies: what a function writes to its input reaches nobody.
        arrays = {
            name: part[name].to_numpy().copy()
            for name, kind in part.schema.items()
            if kind == pl.Float64 or (self.takes == "numpy" and name == index)
        }
        if self.takes == "numpy":
            return arrays
        import pandas as pd

        keys = part[index].to_numpy()
        return pd.DataFrame(arrays, index=pd.Index(keys, name=index), copy=False)

    def _aligned(
        self, found: Any, part: pl.DataFrame, group: Group, where: str
    ) -> Iterator[tuple[str, NDArray[np.float64]]]:
        columns = self._columns_of(found, where)
        for name, values in columns.items():
            # A result with an index of its own says which row each value belongs to.
            keys = getattr(values, "index", None)
            if keys is not None and not callable(keys) and self.takes == "pandas":
                expected = part[INDEX[group]].to_numpy()
                if len(keys) != len(expected) or not (np.asarray(keys) == expected).all():
                    raise FeatureError(
                        f"feature {name!r} of {self.name}, {where}",
                        expected=f"the {part.height} rows of the input, in their order",
                        found=_other_rows([str(k) for k in _days(keys)], [str(k) for k in expected]),
                        action="drop, add and sort nothing; give NaN where there is no value",
                    )
            try:
                array = np.asarray(values.to_numpy() if hasattr(values, "to_numpy") else values, np.float64)
            except (TypeError, ValueError) as error:
                raise FeatureError(
                    f"feature {name!r} of {self.name}, {where}",
                    expected="numbers",
                    found=f"{type(error).__name__}: {_first_line(error)}",
                    action="give floats, NaN where there is no value",
                ) from error
            if array.shape != (part.height,):
                raise FeatureError(
                    f"feature {name!r} of {self.name}, {where}",
                    expected=f"{part.height} values, one for each row of the input",
                    found=f"shape {array.shape}",
                    action="drop and add no row; give NaN where there is no value",
                )
            yield name, array

    def _columns_of(self, found: Any, where: str) -> dict[str, Any]:
        names = getattr(found, "columns", None)
        if names is None and isinstance(found, Mapping):
            names = found.keys()
        if names is None:
            if len(self.columns) == 1 and found is not None:
                return {self.columns[0]: found}
            names = ()
        if set(names) != set(self.columns):
            raise FeatureError(
                f"feature function {self.name}, {where}",
                expected=f"the columns {', '.join(self.columns)}",
                found=", ".join(map(str, names)) or type(found).__name__,
                action="give a frame or a dict with these columns, or correct features=",
            )
        return {name: found[name] for name in self.columns}

    def formula(self, column: str) -> str:
        """As `Calculation`."""
        return f"{column} of {self.name}"

    def reads(self, column: str) -> frozenset[str]:
        """As `Calculation`: nobody knows, so everything."""
        return frozenset()


@dataclass(frozen=True)
class DeskRecipe:
    """One stage for each symbol, and where wanted a second one for each session.

    Parameters
    ----------
    per_symbol : Calculation
    per_session : Calculation or None
        Reads bars and the columns of the first stage.
    """

    per_symbol: Calculation
    per_session: Calculation | None = None

    @property
    def across(self) -> bool:
        """Whether there is a second stage."""
        return self.per_session is not None

    def by_symbol(self, bars: pl.DataFrame) -> pl.DataFrame:
        """First stage: bars in order of (symbol, session) to float64 columns, row by row."""
        if not self.per_symbol.columns:
            return pl.DataFrame(height=bars.height)
        return self.per_symbol.values(bars, "symbol")

    def by_session(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Second stage: bars beside the columns of the first, to float64 columns, row by row."""
        if self.per_session is None:
            raise TypeError("a recipe without a second stage")
        return self.per_session.values(rows, "session")


def _numbers(frame: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """Float64 columns; NaN is null: there is no value."""
    for name in names:
        kind = frame.schema[name]
        if not (kind.is_numeric() or kind in (pl.Boolean, pl.Null)):
            raise FeatureError(
                f"feature {name!r}",
                expected="numbers",
                found=f"dtype {kind}",
                action="make it a number, or give its name a leading underscore",
            )
    return frame.select(pl.col(names).cast(pl.Float64).fill_nan(None))


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def _days(keys: Any) -> Iterator[Any]:
    """Keys of a pandas index; midnights as days."""
    array = np.asarray(keys)
    return iter(array.astype("datetime64[D]") if array.dtype.kind == "M" else array)


def _other_rows(found: list[str], expected: list[str]) -> str:
    if sorted(found) == sorted(expected):
        return "the same rows in another order"
    lacking = [e for e in expected if e not in set(found)]
    added = [f for f in found if f not in set(expected)]
    said = [
        f"{len(rows)} {what}, the first {rows[0]}"
        for what, rows in (("rows missing", lacking), ("rows added", added))
        if rows
    ]
    return "; ".join(said) or f"{len(found)} rows, some more than once"
