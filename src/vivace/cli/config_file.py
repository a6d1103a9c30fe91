"""`--config FILE`: flags kept in a file. Those of the command line win over it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import typer

from vivace.core.errors import UsageError

FLAG = "--config"
_NULL = "tag:yaml.org,2002:null"


def read_config(path: Path) -> dict[str, str | None]:
    """The file's values by name, as texts: so they mean what they mean on a command line. None is
    left out.

    Raises:
        UsageError: it cannot be read, or is not one YAML mapping of names to single values.
    """
    import yaml  # only who has a file waits for it

    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}).") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise UsageError(f"{path} must be lines such as `port: 8000`.")
    values: dict[str, str | None] = {}
    for key, value in root.value:
        if not (isinstance(key, yaml.ScalarNode) and isinstance(value, yaml.ScalarNode)):
            line = key.start_mark.line + 1
            raise UsageError(f"{path}, line {line}: give a flag's name and a single value.")
        if key.value in values:
            raise UsageError(f"{path} has {key.value} twice; keep one of them.")
        values[key.value] = None if value.tag == _NULL else value.value
    return values


def apply_config(context: typer.Context, path: Path | None) -> Path | None:
    """Take the file's values as defaults of the command's flags.

    Raises:
        UsageError: as `read_config`, the command has no flag of a name, or two set the same.
    """
    if path is not None:
        known, given = dict(_known(context)), {}
        for name, text in read_config(path).items():
            flag = name.replace("_", "-")
            if flag not in known:
                raise UsageError(f"{path}: {name} is no flag of this command; see its --help.")
            parameter, sets = known[flag]
            if parameter in given:
                raise UsageError(f"{path} sets {name} twice; keep one of them.")
            given[parameter] = text if sets is None else _switched(path, name, text, sets)
        context.default_map = {name: value for name, value in given.items() if value is not None}
    return path


def _known(context: typer.Context) -> Iterator[tuple[str, tuple[str, bool | None]]]:
    """Names to a parameter, and what naming it sets, where it is a switch."""
    for parameter in context.command.params:
        if parameter.name is None or FLAG in parameter.opts or parameter.name == "debug":
            continue
        is_switch = getattr(parameter, "is_flag", False)
        for option in parameter.opts:
            yield (
                option.lstrip("-").replace("_", "-"),
                (parameter.name, True if is_switch else None),
            )
        for option in parameter.secondary_opts:
            yield option.lstrip("-"), (parameter.name, False)


def _switched(path: Path, name: str, text: str | None, sets: bool) -> bool | None:
    if text is None:
        return None
    if text not in ("true", "false"):
        raise UsageError(f"{path}: {name} is a switch; give true or false, not {text}.")
    return sets == (text == "true")
