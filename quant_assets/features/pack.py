"""Feature packs: what a set of features is, declared as data, and the registry of all packs."""

import importlib
import pkgutil
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from types import MappingProxyType
from typing import Literal, cast

from quant_assets.common.errors import FeatureError
from quant_assets.common.hashing import code_fingerprint, combined_fingerprint, json_digest

Unit = Literal["fraction", "percent", "index_0_100", "standard_deviations", "share_-1_1", "band_position"]

BlockKernel = Callable[..., None]


@dataclass(frozen=True)
class Feature:
    """One column of a pack.

    Parameters
    ----------
    name : str
        Column name.
    warm_up : int
        Leading bars of each symbol that are masked. At least ``lookback``; more where the feature is
        recursive and what lies before the history still shows.
    unit : str
        What one unit of the value is.
    formula : str
        Definition, with the values of the degenerate cases. Part of the pack's fingerprint.
    source : str
        Publication or reference implementation that fixes the convention.
    lookback : int
        Leading bars for which the formula has no value at all.
    """

    name: str
    warm_up: int
    unit: Unit
    formula: str
    source: str
    lookback: int

    def __post_init__(self) -> None:
        if not 0 <= self.lookback <= self.warm_up:
            raise FeatureError(
                f"feature {self.name!r}",
                expected="0 <= lookback <= warm_up (bars)",
                found=f"lookback {self.lookback}, warm_up {self.warm_up}",
                action="declare at least the bars without which the formula has no value",
            )


@dataclass(frozen=True)
class Pack:
    """An ordered set of features that one block kernel computes.

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
        Modules or packages whose source shapes the values.
    libraries : tuple of str
        Distributions whose version shapes the values.
    """

    name: str
    description: str
    features: tuple[Feature, ...]
    kernel: str
    code: tuple[str, ...] = ("quant_assets.features.kernels",)
    libraries: tuple[str, ...] = ("numba",)

    def __post_init__(self) -> None:
        twice = sorted(name for name, count in Counter(self.names).items() if count > 1)
        if twice or not self.features:
            raise FeatureError(
                f"feature pack {self.name!r}",
                expected="one or more features with distinct names",
                found=f"repeated {twice}" if twice else "none",
                action="correct the declaration of the pack",
            )
        if re.fullmatch(r"[a-z][a-z0-9_]*_v[1-9][0-9]*", self.name) is None:
            raise FeatureError(
                f"feature pack {self.name!r}",
                expected="a name in lower case that ends with its version, as in 'technical_v1'",
                found=repr(self.name),
                action="rename the pack",
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
        return json_digest(
            [self.name, *([f.name, f.warm_up, f.lookback, f.unit, f.formula] for f in self.features)]
        )

    @cached_property
    def fingerprint(self) -> str:
        """Identity of the values: the declaration and the code that computes it (40 hexadecimal characters)."""
        return combined_fingerprint([self.declaration, code_fingerprint(self.code, self.libraries)])

    def block_kernel(self) -> BlockKernel:
        """Import the kernel (and with it numba).

        Raises
        ------
        FeatureError
            When ``kernel`` does not name a function.
        """
        module, _, function = self.kernel.partition(":")
        try:
            return cast(BlockKernel, getattr(importlib.import_module(module), function))
        except (ImportError, AttributeError) as error:
            raise FeatureError(
                f"kernel of feature pack {self.name!r}",
                expected="'module:function' of an importable block kernel",
                found=f"{self.kernel!r} ({error})",
                action="correct the declaration of the pack",
            ) from error


_REGISTRY: dict[str, Pack] = {}


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
    catalogue = importlib.import_module("quant_assets.features.catalogue")
    for module in pkgutil.iter_modules(catalogue.__path__):
        importlib.import_module(f"{catalogue.__name__}.{module.name}")
    return MappingProxyType(dict(sorted(_REGISTRY.items())))


def find_pack(pack: str | Pack) -> Pack:
    """The pack of that name (a pack is returned as it is).

    Raises
    ------
    FeatureError
        When no pack has the name; the message offers the closest one.
    """
    if isinstance(pack, Pack):
        return pack
    known = packs()
    if pack in known:
        return known[pack]
    close = get_close_matches(pack, known, n=1, cutoff=0.5)
    raise FeatureError(
        f"feature pack {pack!r}",
        expected=f"one of {', '.join(known)}",
        found="no pack of that name",
        action=f"did you mean {close[0]!r}?" if close else "choose one of them, or register the pack",
    )
