"""Whether a desk's function takes what it would be called with, read off its source: no module is run to find out.

What is not a plain function at the top level of its module (a class, a partial, a decorated or imported function) is
left to the call itself.
"""

import ast
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from quant_assets.common.errors import ConfigurationError, brief, closest
from quant_assets.common.plugins import Plugin
from quant_assets.common.syntax import parsed, source_file


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# What an option may be where its annotation is made of these alone.
_HOLDS: Mapping[str, Callable[[Any], bool]] = {
    "float": _is_number,
    "int": lambda value: _is_number(value) and float(value).is_integer(),
    "str": lambda value: isinstance(value, str),
    "bool": lambda value: isinstance(value, bool),
    "None": lambda value: value is None,
}


def require_call(plugin: Plugin, positional: Sequence[str], named: Mapping[str, Any] | None = None) -> None:
    """Refuse a function that does not take what it would be called with, before anything is computed for it.

    Parameters
    ----------
    plugin : Plugin
        Its module and object are there (`Plugin.require_source`).
    positional : sequence of str
        What it is called with by place, as the documentation calls it.
    named : mapping, optional
        What it is called with by name, besides its options.

    Raises
    ------
    ConfigurationError
        With its signature, when the call does not bind, or an option is not of the annotated type.
    """
    function = _function(plugin)
    if function is None:
        return
    signature = _signature(function)
    spelt = f"def {function.name}({ast.unparse(function.args)})"
    try:
        signature.bind(*positional, **(named or {}), **plugin.options)
    except TypeError as error:
        call = ", ".join([*positional, *(f"{name}=..." for name in [*(named or {}), *plugin.options])])
        wrong = [name for name in plugin.options if name not in signature.parameters]
        hint = closest(wrong[0], signature.parameters) if wrong else ""
        raise ConfigurationError(
            f"plug-in {plugin.text!r}",
            expected=f"a function that can be called as f({call})",
            found=f"{spelt}: {error}",
            action=hint or "correct the reference, the function's parameters, or the options",
        ) from error
    for name, value in plugin.options.items():
        annotation = signature.parameters[name].annotation if name in signature.parameters else None
        types = [part.strip() for part in annotation.split("|")] if isinstance(annotation, str) else []
        if types and all(t in _HOLDS for t in types) and not any(_HOLDS[t](value) for t in types):
            raise ConfigurationError(
                f"plug-in {plugin.use!r}, option {name!r}",
                expected=f"{annotation}, as {spelt} says",
                found=brief(value),
                action="correct the option",
            )


def _function(plugin: Plugin) -> ast.FunctionDef | None:
    module, _, name = plugin.reference.partition(":")
    file = source_file(module)
    if file is None or file.suffix != ".py":
        return None
    bound = [
        statement
        for statement in parsed(file.read_bytes(), str(file)).body
        if any(
            getattr(node, "name", None) == name
            or (isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store))
            or (isinstance(node, ast.alias) and (node.asname or node.name) == name)
            for node in ([statement] if isinstance(statement, ast.FunctionDef) else ast.walk(statement))
        )
    ]
    only = bound[0] if len(bound) == 1 else None
    return only if isinstance(only, ast.FunctionDef) and not only.decorator_list else None


def _signature(function: ast.FunctionDef) -> inspect.Signature:
    kinds, args = inspect.Parameter, function.args
    placed: list[tuple[ast.arg, Any]] = [(a, kinds.POSITIONAL_ONLY) for a in args.posonlyargs]
    placed += [(a, kinds.POSITIONAL_OR_KEYWORD) for a in args.args]
    without = len(placed) - len(args.defaults)
    found = [_parameter(a, kind, has_default=i >= without) for i, (a, kind) in enumerate(placed)]
    if args.vararg is not None:
        found.append(_parameter(args.vararg, kinds.VAR_POSITIONAL, has_default=False))
    for a, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        found.append(_parameter(a, kinds.KEYWORD_ONLY, has_default=default is not None))
    if args.kwarg is not None:
        found.append(_parameter(args.kwarg, kinds.VAR_KEYWORD, has_default=False))
    return inspect.Signature(found)


def _parameter(argument: ast.arg, kind: Any, *, has_default: bool) -> inspect.Parameter:
    annotation = argument.annotation
    text = ast.unparse(annotation).strip("'\"") if annotation is not None else inspect.Parameter.empty
    default = ... if has_default else inspect.Parameter.empty
    return inspect.Parameter(argument.arg, kind, default=default, annotation=text)
