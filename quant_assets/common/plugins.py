"""Code of a desk's own, named in its configuration: ``module:object``, or an entry point that names one.

A desk's modules lie beside its ``configs/``, or are installed. Wherever the configuration takes a plug-in it takes a
reference, or a mapping of the reference and its options::

    sizing: my_desk.sizing:inverse_volatility
    sizing: {use: my_desk.sizing:inverse_volatility, options: {lookback: 63}}

What is promised to the platform's own parts holds for these: the closure of the object's code is in the version of
whatever it shapes (`Plugin.digest`), and so are its options.
"""

import importlib
import importlib.metadata
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from pydantic import Field, JsonValue, field_validator, model_validator

from quant_assets.common.config_model import Config
from quant_assets.common.errors import ConfigurationError, closest
from quant_assets.common.places import project_dir

ENTRY_POINTS = "quant_assets.plugins"
_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_ENTRY_POINT = re.compile(r"[a-z][a-z0-9_.-]{0,62}")


def is_reference(text: str) -> bool:
    """Whether a text has the form ``module:object``."""
    return _REFERENCE.fullmatch(text) is not None


def names_a_plugin(text: str) -> bool:
    """Whether a text is ``module:object``, or the name of an installed entry point, with or without options."""
    use = text.partition(" ")[0]
    return is_reference(use) or use in {e.name for e in importlib.metadata.entry_points(group=ENTRY_POINTS)}


class Plugin(Config):
    """A plug-in as the configuration names it.

    Attributes
    ----------
    use : str
        ``module:object``, or the name of an entry point of the group ``quant_assets.plugins``.
    options : dict
        What the object is called with, as plain data.
    """

    use: str = Field(min_length=1, max_length=200)
    options: dict[str, JsonValue] = Field(default_factory=dict, max_length=64)

    @model_validator(mode="before")
    @classmethod
    def _a_text_is_its_reference(cls, value: Any) -> Any:
        return {"use": value} if isinstance(value, str) else value

    @field_validator("use")
    @classmethod
    def _names_an_object(cls, value: str) -> str:
        if not is_reference(value) and _ENTRY_POINT.fullmatch(value) is None:
            raise ValueError(
                "a plug-in is 'package.module:object', or the name of an entry point of the group "
                f"{ENTRY_POINTS!r}"
            )
        return value

    @classmethod
    def of(cls, use: str) -> Self:
        """A plug-in without options."""
        return cls(use=use)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The plug-in that `text` spells."""
        use, _, options = text.partition(" ")
        return cls(use=use, options=json.loads(options) if options else {})

    @property
    def text(self) -> str:
        """All of it in one line: what it uses, and behind a space its options, if any, as sorted JSON."""
        return f"{self.use} {json.dumps(self.options, sort_keys=True)}" if self.options else self.use

    @property
    def reference(self) -> str:
        """Its ``module:object``.

        Raises
        ------
        ConfigurationError
            For an entry point that no installed package has.
        """
        if is_reference(self.use):
            return self.use
        known = {found.name: found.value for found in importlib.metadata.entry_points(group=ENTRY_POINTS)}
        if self.use not in known or not is_reference(known[self.use]):
            raise ConfigurationError(
                f"plug-in {self.use!r}",
                expected="'package.module:object', or one of the entry points "
                f"{', '.join(sorted(known)) or f'of the group {ENTRY_POINTS} (none is installed)'}",
                found=f"an entry point that names {known[self.use]!r}" if self.use in known else "neither",
                action=closest(self.use, known)
                or "write the module and the object, as in my_desk.labels:mine",
            )
        return known[self.use]

    @property
    def digest(self) -> str:
        """What tells one version of it from another: its code, with all that it imports, and its options."""
        # Here, because settings are read by commands that start without numbers.
        from quant_assets.common.hashing import json_digest
        from quant_assets.common.provenance import closure_of_references

        make_importable()
        return json_digest([self.reference, closure_of_references(self.reference).digest, dict(self.options)])

    def require_source(self) -> None:
        """Refuse a reference to a module or object that is not there, without running the module.

        Raises
        ------
        ConfigurationError
            With the closest name that the module has.
        """
        from quant_assets.common.syntax import imports_of, parsed, source_file, touched

        make_importable()
        module, _, name = self.reference.partition(":")
        file = source_file(module)
        if file is None:
            raise ConfigurationError(
                f"plug-in {self.use!r}",
                expected=f"the module {module}",
                found="no module of that name",
                action=f"install its package, or put it beside the configuration folder, in {project_dir()}",
            )
        if file.suffix != ".py":
            return
        tree = parsed(file.read_bytes(), str(file))
        bound = sorted({n for statement in tree.body for n in touched(statement)[0]})
        bound += [
            e.rpartition(":")[2] for e in imports_of(tree, module, is_package=file.name == "__init__.py")
        ]
        if name not in bound:
            raise ConfigurationError(
                f"plug-in {self.use!r}",
                expected=f"{name!r} at the top level of {file}",
                found=", ".join(n for n in bound if n and not n.startswith("_")) or "nothing",
                action=closest(name, bound) or "correct the reference",
            )

    def load(self, kind: str) -> Any:
        """Import the object.

        Parameters
        ----------
        kind : str
            What it has to be, for the message, as in ``"a label"``.

        Raises
        ------
        ConfigurationError
            When there is no such module or object, or the module fails to import: with its own error.
        """
        make_importable()
        module, _, name = self.reference.partition(":")
        try:
            found = importlib.import_module(module)
        except Exception as error:  # a module of the desk's may raise anything
            absent = error.name if isinstance(error, ModuleNotFoundError) else None
            missing = absent is not None and f"{module}.".startswith(f"{absent}.")
            raise ConfigurationError(
                f"plug-in {self.use!r}, {kind}",
                expected=f"the module {module}, importable",
                found=f"no module named {absent!r}" if missing else f"{type(error).__name__}: {error}",
                action=f"install its package, or put it beside the configuration folder, in {project_dir()}"
                if missing
                else "correct the module",
            ) from error
        if not hasattr(found, name):
            known = [n for n in vars(found) if not n.startswith("_")]
            raise ConfigurationError(
                f"plug-in {self.use!r}, {kind}",
                expected=f"{name!r} in {found.__file__}",
                found=f"{', '.join(known) or 'nothing'}",
                action=closest(name, known) or "correct the reference",
            )
        return getattr(found, name)


def forget_edited(project: Path) -> None:
    """Have the modules of a project imported and read again, because somebody may have edited them."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and Path(file).resolve().is_relative_to(project) and "site-packages" not in file:
            del sys.modules[name]
    importlib.invalidate_caches()
    from quant_assets.common.provenance import forget_closures

    forget_closures()


def references(plugins: Iterable[Plugin]) -> tuple[str, ...]:
    """The ``module:object`` of each, as roots of whatever they shape, on a path where their sources are found."""
    make_importable()
    return tuple(plugin.reference for plugin in plugins)


def make_importable() -> None:
    """Put the project on the import path of this process, behind everything that is installed."""
    folder = str(project_dir())
    if folder not in sys.path:
        sys.path.append(folder)
        importlib.invalidate_caches()
