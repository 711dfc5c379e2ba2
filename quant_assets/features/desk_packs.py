"""Packs of a desk's own, without a kernel: polars expressions, or plain functions, with a measured warm-up.

Nothing is computed before somebody asks for a warm-up: names and formulas are known at once.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, cast, get_args

import polars as pl

from quant_assets.common.errors import ConfigurationError, FeatureError
from quant_assets.common.hashing import combined_fingerprint, json_digest
from quant_assets.common.plugins import Plugin
from quant_assets.common.provenance import closure_of_modules, closure_of_references
from quant_assets.features.feature import Feature, Unit
from quant_assets.features.pack import Pack, require_pack_name
from quant_assets.features.recipes import Calculation, DeskRecipe, Expressions, PlainFunction, Takes
from quant_assets.features.warm_up import LONGEST, Measured, measure

# Names of columns that stand beside features somewhere in the lineage.
TAKEN = frozenset(
    ("symbol", "session", "open", "high", "low", "close", "volume", "t0", "t1", "known_at", "target")
)
ENGINE = (f"{__package__}.computation", f"{__package__}.recipe_features", __name__)


class DeskPack(Pack):
    """A pack that a recipe computes. Made by `expression_pack` and `function_pack`.

    Parameters
    ----------
    name : str
    recipe : DeskRecipe
    names : tuple of str
        The features in order: columns of the recipe, without those that are only inputs.
    description : str
    warm_up : mapping of str to int
        What is declared; the rest is measured.
    units : mapping of str to Unit
    min_symbols : int
        With fewer values in a session, a feature of the second stage is null there.
    """

    recipe: DeskRecipe

    def __init__(
        self,
        name: str,
        recipe: DeskRecipe,
        names: tuple[str, ...],
        *,
        description: str,
        warm_up: Mapping[str, int],
        units: Mapping[str, Unit],
        min_symbols: int,
        plugin: Plugin | None = None,
    ) -> None:
        given = {
            "name": name,
            "description": description,
            "kernel": "",
            "code": (),
            "libraries": (),
            "cross_section": None,
            "recipe": recipe,
            "plugin": plugin,
            "min_symbols": min_symbols,
            "_names": names,
            "_declared": dict(warm_up),
            "_units": dict(units),
        }
        for attribute, value in given.items():
            object.__setattr__(self, attribute, value)

    plugin: Plugin | None
    min_symbols: int
    _names: tuple[str, ...]
    _declared: dict[str, int]
    _units: dict[str, Unit]

    @property
    def names(self) -> tuple[str, ...]:
        """Column names, in order."""
        return self._names

    @property
    def roots(self) -> tuple[str, ...]:
        """``module:object`` of what the configuration names, and the modules that compute it."""
        return (*ENGINE, *(() if self.plugin is None else (self.plugin.reference,)))

    def named_by(self, plugin: Plugin) -> "DeskPack":
        """The same pack as a configuration names it: its code and its options are in its version."""
        return DeskPack(
            self.name,
            self.recipe,
            self._names,
            description=self.description,
            warm_up=self._declared,
            units=self._units,
            min_symbols=self.min_symbols,
            plugin=plugin,
        )

    @cached_property
    def measured(self) -> dict[str, Measured]:
        """What every column of the recipe needs, as measured.

        Raises
        ------
        FeatureError
            When a calculation fails on the bars of the measurement.
        """
        return measure(self.recipe)

    @cached_property
    def margins(self) -> dict[str, int]:
        """Bars that are masked of each column of the recipe: as declared, else as measured.

        Raises
        ------
        FeatureError
            When a declared warm-up is shorter than the measured one, or a feature never settles.
        """
        found: dict[str, int] = {}
        for name, one in self.measured.items():
            declared = self._declared.get(name)
            if one.looks_ahead:
                # No number of bars would do. The proof of causality names the feature and what moved it.
                found[name] = max(one.lookback, declared or 0)
                continue
            if one.warm_up is None and (declared is None or declared <= LONGEST):
                raise FeatureError(
                    f"feature {name!r} of pack {self.name!r}",
                    expected=f"a value that {LONGEST:,} older bars or fewer decide",
                    found="one that still changes when the first bars of a long history are cut off",
                    action="replace what runs over the whole history (a cumulative sum, an expanding mean) by a "
                    "window, or declare a longer warm_up",
                )
            if declared is not None and one.warm_up is not None and declared < one.warm_up:
                raise FeatureError(
                    f"feature {name!r} of pack {self.name!r}",
                    expected=f"a warm_up of {one.warm_up} bars or more: that many is measured",
                    found=f"warm_up {declared}",
                    action=f"declare {one.warm_up}, or nothing",
                )
            found[name] = declared if declared is not None else cast(int, one.warm_up)
        second = self.recipe.per_session
        if second is None:
            return found
        for name in second.columns:
            read = second.reads(name) or frozenset(self.recipe.per_symbol.columns)
            # An earlier expression of the same stage stands before this one, with a margin of its own.
            found[name] = max([found[name], *(found[r] for r in read if r in found)])
        return found

    @cached_property
    def features(self) -> tuple[Feature, ...]:
        """The features with their warm-ups. Raises as `margins`."""
        made = []
        for name in self._names:
            stage = self._stage_of(name)
            lookback = min(self.measured[name].lookback, self.margins[name])
            formula = stage.formula(name)
            unit = self._units.get(name, "number")
            made.append(Feature(name, self.margins[name], unit, formula, "a desk's own", lookback))
        return tuple(made)

    def _stage_of(self, name: str) -> Calculation:
        second = self.recipe.per_session
        return second if second is not None and name in second.columns else self.recipe.per_symbol

    @cached_property
    def declaration(self) -> str:
        """Digest of what a reader is promised, without the code."""
        warm_ups = [[f.name, f.warm_up, f.lookback, f.unit] for f in self.features]
        return json_digest([self.name, warm_ups, self.min_symbols])

    @cached_property
    def fingerprint(self) -> str:
        """Identity of the values: the declaration, the code with all that it imports, the options."""
        engine = closure_of_modules(*ENGINE).digest
        own = self._unnamed() if self.plugin is None else [self.plugin.digest]
        return combined_fingerprint([self.declaration, engine, *own])

    def _unnamed(self) -> list[str]:
        """Of a pack that no configuration names: its expressions, and the functions that can be found."""
        parts = [self._stage_of(name).formula(name) for name in self._names]
        for stage in (self.recipe.per_symbol, self.recipe.per_session):
            if isinstance(stage, PlainFunction):
                function = stage.function
                try:
                    parts.append(
                        closure_of_references(f"{function.__module__}:{function.__qualname__}").digest
                    )
                except ConfigurationError:  # made in a notebook or by a function
                    parts.append("no source")
        return parts


def expression_pack(
    name: str,
    expressions: Mapping[str, pl.Expr],
    *,
    across: Mapping[str, pl.Expr] | None = None,
    warm_up: int | Mapping[str, int] | None = None,
    units: Mapping[str, Unit] | None = None,
    description: str = "",
    min_symbols: int = 2,
) -> DeskPack:
    """A pack of polars expressions.

    Parameters
    ----------
    name : str
        With its version, as in ``momentum_v1``.
    expressions : mapping of str to polars.Expr
        By the name of the feature: over one symbol's bars in order of session (``open, high, low, close, volume``);
        a later one may read an earlier one. A name with a leading underscore is an input alone and no feature.
    across : mapping of str to polars.Expr, optional
        Over the rows of one session: bars, and the columns of ``expressions``, null while they warm up.
    warm_up : int or mapping of str to int, optional
        Bars after which older ones change nothing; measured where it is not given.
    units : mapping of str to str, optional
        As `quant_assets.features.feature.Unit`.
    description : str
    min_symbols : int
        With fewer values in a session, a feature of ``across`` is null there.

    Raises
    ------
    FeatureError
        For a name that is no feature's, or something that is no expression.

    Examples
    --------
    >>> pack = expression_pack("gap_v1", {"gap": pl.col("open") / pl.col("close").shift(1) - 1})
    >>> pack.features[0].warm_up
    1
    """
    for feature, expression in {**expressions, **(across or {})}.items():
        if not isinstance(expression, pl.Expr):
            raise FeatureError(
                f"feature {feature!r} of pack {name!r}",
                expected="a polars expression, as in pl.col('close').pct_change(20)",
                found=type(expression).__name__,
                action="write an expression, or use function_pack",
            )
    first = Expressions(tuple(expressions.items()))
    second = Expressions(tuple(across.items())) if across else None
    return _pack(name, first, second, warm_up, units, description, min_symbols)


def function_pack(
    name: str,
    function: Callable[..., Any],
    *,
    features: Sequence[str],
    per: Literal["symbol", "session"] = "symbol",
    inputs: Mapping[str, pl.Expr] | None = None,
    takes: Takes = "pandas",
    warm_up: int | Mapping[str, int] | None = None,
    units: Mapping[str, Unit] | None = None,
    description: str = "",
    min_symbols: int = 2,
) -> DeskPack:
    """A pack that a plain function computes.

    Parameters
    ----------
    name : str
        With its version, as in ``trend_v1``.
    function : callable
        Called with the bars of one symbol in order of session, or with the rows of one session in order of symbol;
        gives one value for each row: a frame or a dict of arrays with the columns ``features``, or for one feature a
        series or an array. NaN is no value.
    features : sequence of str
        Names of its columns.
    per : {"symbol", "session"}
    inputs : mapping of str to polars.Expr, optional
        For ``per="session"``: expressions over each symbol's bars that the function may read beside the bars.
    takes : {"pandas", "numpy", "polars"}
        What it is called with, see `quant_assets.features.recipes.PlainFunction`.
    warm_up, units, description, min_symbols
        As `expression_pack`.

    Raises
    ------
    FeatureError
        For a name that is no feature's, or inputs of a function that reads one symbol.
    """
    if not callable(function) or takes not in get_args(Takes) or per not in ("symbol", "session"):
        raise FeatureError(
            f"feature pack {name!r}",
            expected=f"a function, per='symbol' or 'session', takes one of {', '.join(get_args(Takes))}",
            found=f"{type(function).__name__}, per={per!r}, takes={takes!r}",
            action="correct the call of function_pack",
        )
    if inputs and per == "symbol":
        raise FeatureError(
            f"feature pack {name!r}",
            expected="inputs only with per='session'",
            found=f"per='symbol' with {', '.join(inputs)}",
            action="compute them in the function: it has the symbol's bars",
        )
    own = PlainFunction(function, tuple(features), takes)
    if per == "symbol":
        return _pack(name, own, None, warm_up, units, description, min_symbols)
    first = Expressions(tuple((inputs or {}).items()))
    return _pack(name, first, own, warm_up, units, description, min_symbols, inputs_hidden=True)


def _pack(
    name: str,
    first: Calculation,
    second: Calculation | None,
    warm_up: int | Mapping[str, int] | None,
    units: Mapping[str, Unit] | None,
    description: str,
    min_symbols: int,
    *,
    inputs_hidden: bool = False,
) -> DeskPack:
    require_pack_name(name)
    columns = [*first.columns, *(second.columns if second is not None else ())]
    shown = second.columns if second is not None and inputs_hidden else columns
    names = tuple(column for column in shown if not column.startswith("_"))
    wrong = [
        c for c in columns if re.fullmatch(r"_?[a-z][a-z0-9_]{0,62}", c) is None or c.lstrip("_") in TAKEN
    ]
    twice = sorted({c for c in columns if columns.count(c) > 1})
    if wrong or twice or not names:
        raise FeatureError(
            f"features of pack {name!r}",
            expected="one or more names in lower case, each once, none of a column of bars",
            found=", ".join([*map(repr, wrong), *(f"{c!r} twice" for c in twice)]) or "none",
            action="rename them",
        )
    said = {"warm_up": warm_up if isinstance(warm_up, Mapping) else {}, "units": units or {}}
    for what, given in said.items():
        unknown = [key for key in given if key not in columns]
        if unknown:
            raise FeatureError(
                f"{what} of pack {name!r}",
                expected=f"features among {', '.join(columns)}",
                found=", ".join(unknown),
                action="correct the names",
            )
    strange = [unit for unit in (units or {}).values() if unit not in get_args(Unit)]
    declared = dict.fromkeys(names, warm_up) if isinstance(warm_up, int) else dict(warm_up or {})
    if strange or min_symbols < 1 or any(number < 0 for number in declared.values()):
        raise FeatureError(
            f"feature pack {name!r}",
            expected=f"units of {', '.join(get_args(Unit))}; min_symbols of 1 or more; warm_up of 0 or more",
            found=", ".join(map(repr, strange)) or f"min_symbols={min_symbols}, warm_up={warm_up}",
            action="correct the declaration of the pack",
        )
    return DeskPack(
        name,
        DeskRecipe(first, second),
        names,
        description=description or f"{len(names)} features of a desk's own.",
        warm_up=declared,
        units=units or {},
        min_symbols=min_symbols,
    )
