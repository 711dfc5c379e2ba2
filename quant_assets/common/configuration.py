"""Read ``configs/`` into `Settings`, or stop with one message that names file, key, value and remedy."""

import datetime
import os
import re
import typing
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from quant_assets.common.errors import ConfigurationError, closest
from quant_assets.common.files import bounded_text, control_character
from quant_assets.common.settings import Config
from quant_assets.common.source_settings import hide_passwords

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")

ConfigT = TypeVar("ConfigT", bound=Config)


# The longest shipped file has 2 kB and four levels; a list of 3,000 symbols has 20 kB and 3,000 values.
MAX_BYTES = 128 * 1024
MAX_DEPTH = 16
MAX_VALUES = 20_000
MAX_DIGITS = 40
# Keys whose value is never shown, whatever it is.
_SECRET = re.compile(r"passw|passphrase|pass$|pwd|secret|token|key$|credential|auth|dsn|login", re.IGNORECASE)
_SHOWN_CHARACTERS = 80


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML that refuses a repeated key, where plain YAML silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = str(key_node.value)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} twice: remove one of the two", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _require_bounded(text: str) -> None:
    """Refuse, before anything is built, what would not end: nests, and aliases that multiply what they name."""
    sizes: dict[str, int] = {}  # values below each anchor, its aliases written out
    open_: list[tuple[str, int]] = []
    count = 0
    events: Iterator[Any] = yaml.parse(text, Loader=yaml.SafeLoader)
    for event in events:
        mark: Any = event.start_mark
        anchor: str = getattr(event, "anchor", None) or ""
        if getattr(event, "tag", None) is not None:
            raise yaml.constructor.ConstructorError(None, None, f"the tag {event.tag!r}", mark)
        if isinstance(event, yaml.AliasEvent):
            if anchor in {name for name, _ in open_}:
                raise yaml.constructor.ConstructorError(
                    None, None, f"*{anchor} inside of what it names", mark
                )
            count += sizes.get(anchor, 1)
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            sizes |= {anchor: 1} if anchor else {}
            if problem := control_character(event.value):  # "\\0" is text until here
                raise yaml.constructor.ConstructorError(None, None, problem, mark)
            if event.implicit[0] and re.fullmatch(rf"[-+]?[0-9_xob]{{{MAX_DIGITS},}}", event.value):
                raise yaml.constructor.ConstructorError(
                    None, None, f"a number of {len(event.value)} digits", mark
                )
        elif isinstance(event, yaml.CollectionStartEvent):
            open_.append((anchor, count))
            count += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            named, before = open_.pop()
            sizes |= {named: count - before} if named else {}
        if count > MAX_VALUES or len(open_) > MAX_DEPTH:
            limit = (
                f"more than {MAX_VALUES} values" if count > MAX_VALUES else f"a nest deeper than {MAX_DEPTH}"
            )
            raise yaml.constructor.ConstructorError(None, None, limit, mark)


def _load(text: str, name: str) -> Any:
    """What a YAML text says.

    Raises
    ------
    ConfigurationError
        With the line and column, and nothing of the text: it may hold a password.
    """
    try:
        _require_bounded(text)
        return yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "no YAML"
        raise ConfigurationError(
            f"{name}{where}",
            expected="valid YAML",
            found=str(problem).removeprefix("found "),
            action="correct the syntax",
        ) from None
    except (ValueError, OverflowError) as error:  # a date such as 2024-13-45 looks like one and is none
        raise ConfigurationError(
            name, expected="valid YAML", found=str(error), action="correct the value, or quote it as text"
        ) from None


def _substitute(value: Any, file: Path, where: str) -> Any:
    """Replace ``${NAME}`` and ``${NAME:-default}`` in every string below ``value``."""
    if isinstance(value, str):

        def replacement(match: re.Match[str]) -> str:
            name, default = match.group(1), match.group(2)
            found = os.environ.get(name, default)
            if found is None:
                raise ConfigurationError(
                    f"{file}, key {where!r}",
                    expected=f"the environment variable {name}, which ${{{name}}} names",
                    found="it is not set",
                    action=f"set {name}, or give a default as ${{{name}:-value}}",
                )
            return found

        text = _VARIABLE.sub(replacement, value)
        return _value(text) if _VARIABLE.fullmatch(value) else text
    if isinstance(value, dict):
        return {k: _substitute(v, file, f"{where}.{k}".lstrip(".")) for k, v in value.items()}
    if isinstance(value, list):
        return [_substitute(v, file, f"{where}[{i}]") for i, v in enumerate(value)]
    return value


def _value(text: str) -> Any:
    """A value that was nothing but a reference may stand for a number, a boolean or a list; else it is text."""
    try:
        found = _load(text, "")
    except ConfigurationError:  # a password may look like anything
        return text
    return found if isinstance(found, bool | int | float | list | datetime.date | None) else text


def read_yaml(file: Path, *, environment: bool = True) -> dict[str, Any]:
    """Read one YAML mapping, with environment references replaced unless ``environment`` is false.

    Raises
    ------
    ConfigurationError
        Missing file, no UTF-8 text, too large or too deep, invalid YAML, a tag, a repeated key, no mapping, an unset
        variable. No message shows a value that was not understood.
    """
    if not file.is_file():
        near = sorted(p.name for p in file.parent.glob("*.y*ml")) if file.parent.is_dir() else []
        raise ConfigurationError(
            str(file),
            expected="a YAML file",
            found=f"no such file; the folder holds {near or 'no YAML file'}",
            action="create it, or point $QUANT_ASSETS_CONFIGS at the folder that has it",
        )
    data = _load(bounded_text(file, MAX_BYTES), str(file))
    data = {} if data is None else data
    if not isinstance(data, dict):
        raise ConfigurationError(
            str(file),
            expected="a mapping of keys to values",
            found=type(data).__name__,
            action="write `key: value` lines",
        )
    return _substitute(data, file, "") if environment else data


def _models_in(annotation: Any) -> list[type[Config]]:
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return [annotation]
    if typing.get_origin(annotation) in (typing.Union, UnionType, typing.Annotated, tuple, dict, list):
        return [model for part in typing.get_args(annotation) for model in _models_in(part)]
    return []


def _valid_keys(model: type[Config], location: tuple[int | str, ...]) -> list[str]:
    """Valid keys of the section in which an error at ``location`` lies."""
    candidates: list[type[Config]] = [model]
    for part in location[:-1]:
        fields = [m.model_fields[part] for m in candidates if part in m.model_fields]
        if fields:  # otherwise: a list index or the tag of a discriminated union, which stays in place
            candidates = [found for field in fields for found in _models_in(field.annotation)] or candidates
    tag = location[-2] if len(location) > 1 else None
    tagged = [m for m in candidates if "kind" in m.model_fields and tag in typing.get_args(
        m.model_fields["kind"].annotation)]  # fmt: skip
    return sorted({name for m in tagged or candidates for name in m.known_keys()} - {"name"})


def parse(model: type[ConfigT], data: Mapping[str, Any], file: Path) -> ConfigT:
    """Validate a mapping against a model.

    Raises
    ------
    ConfigurationError
        One message for the first violation: file, key, value, and the closest valid key for a misspelt one.
    """
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        first = error.errors()[0]
        location = tuple(first["loc"])
        key = ".".join(str(part) for part in location) or "(whole file)"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        value = _shown(first["input"], location, known=first["type"] != "extra_forbidden")
        if first["type"] == "extra_forbidden":
            valid = _valid_keys(model, location)
            raise ConfigurationError(
                f"{file}, key {key!r}",
                expected=f"one of {', '.join(valid)}",
                found=f"unknown key {location[-1]!r} with {value}{more}",
                action=f"{closest(str(location[-1]), valid)} Correct or remove the key".strip(),
            ) from None  # pydantic's own text shows the value
        raise ConfigurationError(
            f"{file}, key {key!r}",
            expected=first["msg"].removeprefix("Value error, "),
            found=f"{'nothing' if first['type'] == 'missing' else value}{more}",
            action="correct the value" if first["type"] != "missing" else f"add the key {key!r}",
        ) from None


def _shown(value: Any, location: tuple[int | str, ...], *, known: bool) -> str:
    """A value for a message: never a secret, never a whole section. Of an unknown key only numbers are shown."""
    if any(_SECRET.search(str(part)) for part in location):
        return "a value that is not shown"
    plain = not isinstance(value, dict | list | tuple)
    if not plain and (isinstance(value, dict) or not known or any(isinstance(v, dict | list) for v in value)):
        return f"a {'mapping' if isinstance(value, dict) else 'list'} of {len(value)}"
    if isinstance(value, str) and not known:
        return f"a text of {len(value)} characters"
    text = re.sub(r"(\$\{\w+:-)(?![0-9.]*\})[^}']*", r"\1***", repr(hide_passwords(value)))
    text = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
    return text if known else f"value {text}"
