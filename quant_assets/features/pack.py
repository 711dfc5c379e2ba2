"""Feature packs: what a set of features is, declared as data, and the registry of all packs."""

import importlib
import pkgutil
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import cast

from quant_assets.common.errors import FeatureError, closest
from quant_assets.common.hashing import code_fingerprint, combined_fingerprint, json_digest
from quant_assets.features.declaration import CrossSection, Feature
from quant_assets.features.provenance import modules_behind

BlockKernel = Callable[..., None]


@dataclass(frozen=True)
class Pack:
    """An ordered set of features that one block kernel computes.

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
        Modules or packages whose source shapes the values. Default: the module of the kernel (and of the
        step) and what it imports from `quant_assets.features`.
    libraries : tuple of str
        Distributions whose version shapes the values.
    cross_section : CrossSection, optional
        Second stage, across the symbols of a session.
    """

    name: str
    description: str
    features: tuple[Feature, ...]
    kernel: str
    code: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ("numba",)
    cross_section: CrossSection | None = None

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
        code = self.code or modules_behind(*(name.partition(":")[0] for name in functions))
        return combined_fingerprint([self.declaration, *functions, code_fingerprint(code, self.libraries)])

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
    # Not by its literal name: a pack's features are made of its own declaration, whatever stands beside it.
    catalogue = importlib.import_module(f"{__package__}.catalogue")
    for module in pkgutil.iter_modules(catalogue.__path__):
        found = importlib.import_module(f"{catalogue.__name__}.{module.name}")
        for declared in vars(found).values():
            if isinstance(declared, Pack):
                _DECLARED_IN.setdefault(declared.name, found.__name__)
    return MappingProxyType(dict(sorted(_REGISTRY.items())))


def declared_in(pack: str) -> str | None:
    """Module of the catalogue that declares a pack; None for one that was registered from elsewhere."""
    packs()
    return _DECLARED_IN.get(pack)


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
    raise FeatureError(
        f"feature pack {pack!r}",
        expected=f"one of {', '.join(known)}",
        found="no pack of that name",
        action=closest(pack, known) or "choose one of them, or register the pack",
    )
