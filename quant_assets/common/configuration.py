"""Read ``configs/`` into `Settings`, or stop with one message that names file, key, value and remedy."""

import os
import re
import typing
from collections.abc import Hashable, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from quant_assets.common.errors import ConfigurationError, closest
from quant_assets.common.files import is_url, local_path, shown
from quant_assets.common.settings import Config

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")

ConfigT = TypeVar("ConfigT", bound=Config)


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML that refuses a repeated key, where plain YAML silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = str(key_node.value)
            if key in seen:
                line = key_node.start_mark.line + 1
                raise ConfigurationError(
                    f"{self.name}, line {line}",
                    expected="each key once",
                    found=f"{key!r} twice",
                    action="remove one of the two",
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def config_dir() -> Path:
    """Where the configuration lives: ``$QUANT_ASSETS_CONFIGS``, else ``./configs``, else the checkout's."""
    chosen = os.environ.get("QUANT_ASSETS_CONFIGS")
    if chosen:
        return Path(chosen)
    local = Path("configs")
    return local if local.is_dir() else Path(__file__).resolve().parents[2] / "configs"


def home_address() -> str:
    """What ``$QUANT_ASSETS_HOME`` says, a folder or a URL; default ``.quant_assets``."""
    return os.environ.get("QUANT_ASSETS_HOME") or ".quant_assets"


def home_dir(address: str = "") -> Path:
    """The local folder of a home: the home itself when it is a folder, and a folder beside it when it is a URL.

    Parameters
    ----------
    address : str
        Folder or URL; empty means `home_address`. With a URL it is ``$QUANT_ASSETS_LOCAL``, default
        ``./.quant_assets``: what cannot live in a bucket is there (sqlite files, private keys, configuration that
        was added by command).

    Raises
    ------
    ConfigurationError
        When ``$QUANT_ASSETS_LOCAL`` is wanted and is a URL.
    """
    address = address or home_address()
    if not is_url(address):
        return local_path(address).resolve()
    local = os.environ.get("QUANT_ASSETS_LOCAL") or ".quant_assets"
    if is_url(local):
        raise ConfigurationError(
            "environment variable QUANT_ASSETS_LOCAL",
            expected="a local folder, for what cannot live in a bucket",
            found=f"the URL {shown(local)}",
            action="set it to a folder of this machine",
        )
    return local_path(local).resolve()


def _substitute(value: Any, file: Path, where: str) -> Any:
    """Replace ``${NAME}`` and ``${NAME:-default}`` in every string below ``value``."""
    if isinstance(value, str):

        def replacement(match: re.Match[str]) -> str:
            name, default = match.group(1), match.group(2)
            found = os.environ.get(name, default)
            if found is None:
                raise ConfigurationError(
                    f"{file}, key {where!r}",
                    expected=f"the environment variable {name} that {match.group(0)} refers to",
                    found="it is not set",
                    action=f"set {name}, or give a default as ${{{name}:-value}}",
                )
            return found

        text = _VARIABLE.sub(replacement, value)
        # a value that was nothing but a reference may stand for a number or a boolean
        return yaml.safe_load(text) if _VARIABLE.fullmatch(value) else text
    if isinstance(value, dict):
        return {k: _substitute(v, file, f"{where}.{k}".lstrip(".")) for k, v in value.items()}
    if isinstance(value, list):
        return [_substitute(v, file, f"{where}[{i}]") for i, v in enumerate(value)]
    return value


def read_yaml(file: Path, *, environment: bool = True) -> dict[str, Any]:
    """Read one YAML mapping, with environment references replaced unless ``environment`` is false.

    Raises
    ------
    ConfigurationError
        Missing file, invalid YAML, repeated key, something other than a mapping, an unset variable.
    """
    if not file.is_file():
        near = sorted(p.name for p in file.parent.glob("*.y*ml")) if file.parent.is_dir() else []
        raise ConfigurationError(
            str(file),
            expected="a YAML file",
            found=f"no such file; the folder holds {near or 'no YAML file'}",
            action="create it, or point $QUANT_ASSETS_CONFIGS at the folder that has it",
        )
    loader = _UniqueKeyLoader(file.read_text(encoding="utf-8"))
    loader.name = str(file)
    try:
        data = loader.get_single_data()
    except yaml.YAMLError as error:
        raise ConfigurationError(
            str(file), expected="valid YAML", found=" ".join(str(error).split()), action="correct the syntax"
        ) from error
    finally:
        loader.dispose()
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
        if first["type"] == "extra_forbidden":
            valid = _valid_keys(model, location)
            raise ConfigurationError(
                f"{file}, key {key!r}",
                expected=f"one of {', '.join(valid)}",
                found=f"unknown key {location[-1]!r} with value {first['input']!r}{more}",
                action=f"{closest(str(location[-1]), valid)} Correct or remove the key".strip(),
            ) from error
        value = "nothing" if first["type"] == "missing" else repr(first["input"])
        raise ConfigurationError(
            f"{file}, key {key!r}",
            expected=first["msg"],
            found=f"{value}{more}",
            action="correct the value" if first["type"] != "missing" else f"add the key {key!r}",
        ) from error
