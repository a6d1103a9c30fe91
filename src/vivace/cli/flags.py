"""Command-line flags made from frozen dataclasses: one field, one default, one line of help."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Collection
from copy import copy
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from vivace.cli.config_file import FLAG, apply_config

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_MAY_BE_ZERO = {"seed", "num_iters_warmup", "eval_windows"}


def parse_bytes(text: str) -> int:
    """Bytes in "2GiB", "512M" or "1048576"; units are powers of 1024."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not match or not float(match[1]):
        raise typer.BadParameter(f"{text!r} is not a size such as 2GiB or 512MiB.")
    return int(float(match[1]) * _UNITS[match[2].upper()])


_OPTIONS: dict[str, Any] = {
    "model": typer.Argument(metavar="MODEL"),
    "memory_bytes": typer.Option("--memory", parser=parse_bytes, metavar="SIZE"),
    "model_memory_cap": typer.Option("--model-memory-cap", parser=parse_bytes, metavar="SIZE"),
    "kv_memory_bytes": typer.Option("--kv-memory", parser=parse_bytes, metavar="SIZE"),
    "kv_host_bytes": typer.Option("--kv-host", parser=parse_bytes, metavar="SIZE"),
    "kv_disk_bytes": typer.Option("--kv-disk", parser=parse_bytes, metavar="SIZE"),
    "api_key": typer.Option("--api-key", envvar="VIVACE_API_KEY"),
    "admin_key": typer.Option("--admin-key", envvar="VIVACE_ADMIN_KEY"),
    "access_log": typer.Option("--access-log/--no-access-log"),
    "packed_cache": typer.Option("--packed-cache/--no-packed-cache"),
    "page": typer.Option("--page/--no-page"),
    "enable_prefix_caching": typer.Option("--prefix-caching/--no-prefix-caching"),
}


def flags(command: Callable[..., None], without: Collection[str] = ()) -> Callable[..., None]:
    """Give a command one flag per field in place of each parameter that is a dataclass.

    A flag takes its default from the field and its help from the class's docstring. Where the
    command has a parameter of a field's name, or goes `without` it, the field keeps its default.
    `--config` and `--debug` come along.
    """
    parameters = inspect.signature(command, eval_str=True).parameters
    own = {n: p for n, p in parameters.items() if not dataclasses.is_dataclass(p.annotation)}
    groups = {name: p.annotation for name, p in parameters.items() if name not in own}
    made = {name: _parameters(group, {*own, *without}) for name, group in groups.items()}

    @functools.wraps(command)
    def run(**given: Any) -> None:
        del given["debug"], given["config_file"]  # acted on in app.main, and while parsing
        for name, group in groups.items():
            given[name] = group(**{p.name: given.pop(p.name) for p in made[name]})
        command(**given)

    every = [p.replace(kind=p.KEYWORD_ONLY) for p in own.values()]
    every += [parameter for group in made.values() for parameter in group]
    run.__signature__ = inspect.Signature([*every, _CONFIG, _DEBUG])  # type: ignore[attr-defined]
    return run


def _parameters(group: type, hidden: Collection[str]) -> list[inspect.Parameter]:
    types, helps = get_type_hints(group), _attribute_docs(group)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=Annotated[
                types[field.name],
                _option(field.name, types[field.name], helps.get(field.name, "")),
            ],
        )
        for field in dataclasses.fields(group)
        if field.name not in hidden
    ]


def _option(name: str, kind: object, text: str) -> Any:
    option = copy(_OPTIONS.get(name)) or typer.Option("--" + name.replace("_", "-"))
    option.help = text[:1].upper() + text[1:].replace("None is", "left out:")
    if kind in (int, int | None) and option.parser is None:
        option.min = 0 if name in _MAY_BE_ZERO else 1
    return option


def _attribute_docs(group: type) -> dict[str, str]:
    """The lines "name: text" of a docstring's attribute list, continuations joined."""
    items = re.findall(r"^ *(\w+): (.+(?:\n(?! *\w+: ) +.+)*)", inspect.getdoc(group) or "", re.M)
    return {name: re.sub(r"\s+", " ", text) for name, text in items}


_CONFIG = inspect.Parameter(
    "config_file",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[
        Path | None,
        typer.Option(
            FLAG,
            help="A YAML file of flags, such as `port: 8000`; those given here win over it.",
            callback=apply_config,
            is_eager=True,
            metavar="FILE",
        ),
    ],
)
_DEBUG = inspect.Parameter(
    "debug",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")],
)
