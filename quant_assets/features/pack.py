"""Feature packs: what a set of features is, declared as data; all packs by name, and packs side by side.

Read with the configuration, so it imports neither numba nor a kernel.
"""

import importlib
import importlib.metadata
import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Protocol, cast

import polars as pl

from quant_assets.common.errors import FeatureError, QuantAssetsError, closest
from quant_assets.common.hashing import combined_fingerprint, json_digest
from quant_assets.common.lazy import every_module_of
from quant_assets.common.plugin_calls import require_call
from quant_assets.common.plugins import Plugin, names_a_plugin
from quant_assets.common.provenance import closure_of_modules
from quant_assets.features.feature import CrossSection, Feature

# ----------------------------------------------------------------------------------------------------- one pack

BlockKernel = Callable[..., None]


class Recipe(Protocol):
    """How a pack without a kernel is computed, see `quant_assets.features.recipes`."""

    @property
    def across(self) -> bool:
        """Whether it has a second stage, across the symbols of a session."""

    def by_symbol(self, bars: pl.DataFrame) -> pl.DataFrame:
        """First stage: bars in order of (symbol, session) to float64 columns, row by row."""

    def by_session(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Second stage: bars beside the columns of the first, to float64 columns, row by row."""


@dataclass(frozen=True)
class Pack:
    """An ordered set of features that one block kernel computes, or a recipe.

    With a `cross_section` the kernel computes its inputs and the step makes the features of them.

    Parameters
    ----------
    name : str
        Name with its version suffix, as in ``technical_v1``. A changed definition is a new pack.
    description : str
        One sentence for the catalogue.
    features : tuple of Feature
        In the order of the kernel's output rows.
    kernel : str
        ``module:function`` of the block kernel; imported when the pack is computed, never before. Called as
        ``kernel(open, high, low, close, volume, starts, first, last, out)``, see
        `quant_assets.features.kernels.technical.technical_v1`.
    code : tuple of str
        Modules whose source, with all that they import, shapes the values; libraries among it count by their
        version. Default: the module of the kernel (and of the step).
    libraries : tuple of str
        Further distributions whose version shapes the values.
    cross_section : CrossSection, optional
        Second stage, across the symbols of a session.
    recipe : Recipe, optional
        What computes the features in the place of a kernel, see `quant_assets.features.desk_packs`.
    """

    name: str
    description: str
    features: tuple[Feature, ...]
    kernel: str
    code: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    cross_section: CrossSection | None = None
    recipe: Recipe | None = None

    def __post_init__(self) -> None:
        twice = sorted(name for name, count in Counter(self.names).items() if count > 1)
        if twice or not self.features:
            raise FeatureError(
                f"feature pack {self.name!r}",
                expected="one or more features with distinct names",
                found=f"repeated {twice}" if twice else "none",
                action="correct the declaration of the pack",
            )
        require_pack_name(self.name)
        if self.cross_section is not None:
            self._check_cross_section(self.cross_section)

    def _check_cross_section(self, across: CrossSection) -> None:
        inputs = {feature.name: feature for feature in across.inputs}
        unknown = sorted({name for read in across.reads for name in read} - set(inputs))
        if len(across.reads) != len(self.features) or unknown or not all(across.reads):
            raise FeatureError(
                f"cross-section of feature pack {self.name!r}",
                expected=f"for each of the {len(self.features)} features one or more of its inputs",
                found=f"{len(across.reads)} entries" + (f", unknown {unknown}" if unknown else ""),
                action="correct the declaration of the pack",
            )
        if across.min_symbols < 2:
            raise FeatureError(
                f"cross-section of feature pack {self.name!r}",
                expected="min_symbols of 2 or more",
                found=str(across.min_symbols),
                action="a symbol alone has no rank: declare how many it takes",
            )
        for feature, read in zip(self.features, across.reads, strict=True):
            lookback = max(inputs[name].lookback for name in read)
            warm_up = max(inputs[name].warm_up for name in read)
            if (feature.lookback, feature.warm_up) != (lookback, warm_up):
                raise FeatureError(
                    f"feature {feature.name!r}",
                    expected=f"lookback {lookback} and warm_up {warm_up}, the longest of its inputs",
                    found=f"lookback {feature.lookback}, warm_up {feature.warm_up}",
                    action="correct the declaration of the pack",
                )

    @property
    def across(self) -> bool:
        """Whether a feature depends on the other symbols of its session."""
        return self.cross_section is not None or (self.recipe is not None and self.recipe.across)

    @property
    def roots(self) -> tuple[str, ...]:
        """Modules, or ``module:object``, of the code that computes it."""
        functions = [self.kernel] if self.cross_section is None else [self.kernel, self.cross_section.step]
        return (*(name.partition(":")[0] for name in functions), *self.code)

    def named_by(self, plugin: Plugin) -> "Pack":
        """The same pack as a configuration names it: the module that declares it is part of its version."""
        declared = plugin.reference.partition(":")[0]
        return replace(self, code=tuple(dict.fromkeys([*(self.code or self.roots), declared])))

    @property
    def input_pack(self) -> "Pack":
        """The first stage as a pack of its own: per symbol, without the cross-section."""
        if self.cross_section is None:
            return self
        stem, _, version = self.name.rpartition("_v")
        return Pack(
            f"{stem}_inputs_v{version}",
            f"Inputs of {self.name}.",
            self.cross_section.inputs,
            self.kernel,
            self.code,
            self.libraries,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Column names, in order."""
        return tuple(feature.name for feature in self.features)

    @property
    def version(self) -> int:
        """The number at the end of the name."""
        return int(self.name.rpartition("_v")[2])

    @property
    def warm_up(self) -> int:
        """Bars after which no feature of a symbol is masked any more."""
        return max(feature.warm_up for feature in self.features)

    @cached_property
    def declaration(self) -> str:
        """Digest of names, warm-ups, units and formulas: what a reader is promised, without the code."""
        across = [] if self.cross_section is None else self.cross_section.as_list()
        return json_digest([self.name, *(f.as_list() for f in self.features), *across])

    @cached_property
    def fingerprint(self) -> str:
        """Identity of the values: the declaration and the code that computes it (40 hexadecimal characters)."""
        functions = [self.kernel] if self.cross_section is None else [self.kernel, self.cross_section.step]
        code = self.code or tuple(name.partition(":")[0] for name in functions)
        versions = [f"{library}=={importlib.metadata.version(library)}" for library in self.libraries]
        return combined_fingerprint(
            [self.declaration, *functions, closure_of_modules(*code).digest, *versions]
        )

    def block_kernel(self) -> BlockKernel:
        """Import the kernel (and with it numba).

        Raises
        ------
        FeatureError
            When ``kernel`` does not name a function.
        """
        return self._function(self.kernel, "block kernel")

    def stage_across(self) -> CrossSection:
        """The second stage.

        Raises
        ------
        FeatureError
            When the pack has none.
        """
        if self.cross_section is None:
            raise FeatureError(
                f"feature pack {self.name!r}",
                expected="a pack with a cross-section",
                found="one whose features are computed per symbol",
                action="call compute, or choose a pack that declares a cross_section",
            )
        return self.cross_section

    def cross_section_step(self) -> BlockKernel:
        """Import the step across symbols (and with it numba).

        Raises
        ------
        FeatureError
            When the pack has no cross-section, or ``step`` does not name a function.
        """
        return self._function(self.stage_across().step, "cross-section step")

    def _function(self, name: str, role: str) -> BlockKernel:
        module, _, function = name.partition(":")
        try:
            return cast(BlockKernel, getattr(importlib.import_module(module), function))
        except (ImportError, AttributeError) as error:
            raise FeatureError(
                f"kernel of feature pack {self.name!r}",
                expected=f"'module:function' of an importable {role}",
                found=f"{name!r} ({error})",
                action="correct the declaration of the pack",
            ) from error


_PACK_NAME = re.compile(r"[a-z][a-z0-9_]*_v[1-9][0-9]*")


def require_pack_name(name: str) -> None:
    """Refuse a name that does not say its version.

    Raises
    ------
    FeatureError
    """
    if _PACK_NAME.fullmatch(name) is None:
        raise FeatureError(
            f"feature pack {name!r}",
            expected="a name in lower case that ends with its version, as in 'technical_v1'",
            found=repr(name),
            action="rename the pack",
        )


# ------------------------------------------------------------------------------------------ all packs by name

_REGISTRY: dict[str, Pack] = {}
_DECLARED_IN: dict[str, str] = {}


def register(pack: Pack) -> Pack:
    """Add a pack to the registry, under its name.

    Raises
    ------
    FeatureError
        When another pack holds the name: values must not change under a name that models were trained on.
    """
    held = _REGISTRY.setdefault(pack.name, pack)
    if held != pack:
        raise FeatureError(
            f"feature pack {pack.name!r}",
            expected="a name that no other pack holds",
            found="a different pack registered under it",
            action=f"give the new definition the next version, as in '{pack.name.rpartition('_v')[0]}"
            f"_v{pack.version + 1}'",
        )
    return pack


def packs() -> Mapping[str, Pack]:
    """All registered packs by name. Every module of `quant_assets.features.catalogue` registers itself."""
    for found in every_module_of(f"{__package__}.catalogue"):
        _DECLARED_IN.update({p.name: found.__name__ for p in vars(found).values() if isinstance(p, Pack)})
    return MappingProxyType(dict(sorted(_REGISTRY.items())))


def declared_in(pack: str) -> str | None:
    """Module of the catalogue that declares a pack; None for one that was registered from elsewhere."""
    packs()
    return _DECLARED_IN.get(pack)


def find_pack(pack: str | Pack) -> Pack:
    """The pack of that name (a pack is returned as it is).

    Parameters
    ----------
    pack : str or Pack
        A registered name, as in ``technical_v1``, or a plug-in as `Plugin.text` spells it: ``module:object``, with
        the options of an object that makes packs behind it.

    Raises
    ------
    FeatureError
        When no pack has the name; the message offers the closest one. When a plug-in is no pack and makes none.
    ConfigurationError
        When a plug-in cannot be imported.
    """
    if isinstance(pack, Pack):
        return pack
    known = packs()
    if pack in known:
        return known[pack]
    if names_a_plugin(pack):
        return _of_a_plugin(pack)
    raise FeatureError(
        f"feature pack {pack!r}",
        expected=f"one of {', '.join(known)}, or module:object of a pack of your own",
        found="no pack of that name",
        action=closest(pack, known) or "choose one of them, or register the pack",
    )


def pack_name(pack: str) -> str:
    """The name of a pack, of a plug-in the one that it gives itself. Raises as `find_pack`."""
    return pack if _PACK_NAME.fullmatch(pack) is not None else find_pack(pack).name


# A pack by the text that names it, beside the object it was made of: a module that is imported anew has a new one.
_NAMED: dict[str, tuple[object, Pack]] = {}


def _of_a_plugin(text: str) -> Pack:
    plugin = Plugin.from_text(text)
    found = plugin.load("a feature pack")
    if text in _NAMED and _NAMED[text][0] is found:
        return _NAMED[text][1]
    what = f"feature pack {text}"
    if not isinstance(found, Pack) and callable(found):
        try:
            inspect.signature(found).bind(**plugin.options)
        except TypeError as error:
            raise FeatureError(
                what,
                expected=f"options of {found.__name__}{inspect.signature(found)}",
                found=str(error),
                action="correct the options",
            ) from error
        require_call(plugin, ())
        try:
            made = found(**plugin.options)
        except QuantAssetsError:
            raise
        except Exception as error:  # a desk's own code may raise anything
            raise FeatureError(
                what,
                expected="a function that returns a pack",
                found=f"{type(error).__name__}: {error}",
                action="correct the function, or the options",
            ) from error
    else:
        made = found
    if not isinstance(made, Pack) or (made is found and plugin.options):
        raise FeatureError(
            what,
            expected="a pack, as quant_assets.features.expression_pack makes one, or a function that returns one",
            found=f"options for a pack that is made already: {', '.join(plugin.options)}"
            if isinstance(made, Pack)
            else f"{type(made).__name__}",
            action="name the function that makes the pack"
            if isinstance(made, Pack)
            else "make a pack of it with expression_pack or function_pack",
        )
    if made.name in packs():
        raise FeatureError(
            what,
            expected="a name that no pack of the platform holds",
            found=repr(made.name),
            action="rename the pack",
        )
    _NAMED[text] = (found, made.named_by(plugin))
    return _NAMED[text][1]


# -------------------------------------------------------------------------- the packs that a strategy chooses

KEYS = ("symbol", "session")


def selected_packs(names: Sequence[str]) -> tuple[Pack, ...]:
    """The packs of these names, in order, fit to stand side by side in one training set.

    Parameters
    ----------
    names : sequence of str
        Names with their version, as in ``technical_v1``.

    Raises
    ------
    FeatureError
        No name, a repeated or unknown one (the message offers the closest), or a column that two packs hold.
    """
    repeated = sorted({name for name in names if list(names).count(name) > 1})
    if repeated or not names:
        raise FeatureError(
            "feature packs",
            expected="one or more packs, each named once",
            found=f"{', '.join(repeated)} more than once" if repeated else "none",
            action="name each pack once",
        )
    chosen = tuple(find_pack(name) for name in names)
    _refuse_shared_columns((pack.name, pack.names) for pack in chosen)
    return chosen


def joined_names(names: Sequence[str]) -> tuple[str, ...]:
    """Feature columns of these packs, pack by pack: the inputs of a model, in order. Raises as `selected_packs`."""
    return tuple(column for pack in selected_packs(names) for column in pack.names)


def join_packs(frames: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Put the features of several packs over the same bars side by side.

    Parameters
    ----------
    frames : mapping of str to polars.DataFrame
        By pack name: ``symbol, session`` and the features, as `quant_assets.features.compute` returns them.

    Returns
    -------
    polars.DataFrame
        ``symbol, session`` and the columns of each pack in turn. Masked values stay null.

    Raises
    ------
    FeatureError
        No frame, a column that two packs hold, or packs that were computed over different bars.
    """
    if not frames:
        raise FeatureError(
            "feature packs", expected="one or more", found="none", action="pass the features of each pack"
        )
    _refuse_shared_columns(
        (name, [c for c in frame.columns if c not in KEYS]) for name, frame in frames.items()
    )
    (first, joined), *others = frames.items()
    keys = joined.select(KEYS)
    for name, frame in others:
        if not frame.select(KEYS).equals(keys):
            theirs = frame.select(KEYS)
            lonely = (
                keys.join(theirs, on=KEYS, how="anti").height,
                theirs.join(keys, on=KEYS, how="anti").height,
            )
            raise FeatureError(
                f"features of the packs {first} and {name}",
                expected="one row per bar of the same panel in both, in the same order",
                found=f"{keys.height} and {theirs.height} rows; {lonely[0]} only in {first}, "
                f"{lonely[1]} only in {name}",
                action="compute both packs over the same version of the bars",
            )
    return pl.concat([joined, *(frame.drop(KEYS) for _, frame in others)], how="horizontal")


def _refuse_shared_columns(columns: Iterable[tuple[str, Sequence[str]]]) -> None:
    held: dict[str, str] = {}
    for pack, names in columns:
        shared = [name for name in names if name in held]
        if shared:
            raise FeatureError(
                f"feature packs {held[shared[0]]} and {pack}",
                expected="packs without a column in common: a model tells its inputs apart by name",
                found=f"{', '.join(shared)} in both",
                action=f"choose one of {held[shared[0]]} and {pack}",
            )
        held |= dict.fromkeys(names, pack)
