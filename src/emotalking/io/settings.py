"""Configuration dataclasses from and to plain values, and dotted ``key=value`` overrides of them."""

import dataclasses
import json
from dataclasses import replace
from typing import Any, get_args, get_type_hints

from emotalking.errors import UserError


def to_dict(config: Any) -> dict[str, Any]:
    """A config as plain values, ready for JSON."""
    return dataclasses.asdict(config)


def from_dict(cls: type, values: dict[str, Any]) -> Any:
    """Build the dataclass ``cls`` from plain values; an unknown key is an error, a missing one takes its default.

    Raises:
        ValueError: naming the keys that do not fit.
    """
    hints = get_type_hints(cls)
    unknown = set(values) - set(hints)
    if unknown:
        raise ValueError(f"{cls.__name__} has no field {sorted(unknown)}")
    built = {
        key: from_dict(hints[key], value) if dataclasses.is_dataclass(hints[key]) else value
        for key, value in values.items()
    }
    return cls(**built)


def override(config: Any, settings: list[str]) -> Any:
    """Apply ``key=value`` settings with dotted keys (``face.iterations=2000``).

    Raises:
        UserError: if a key does not exist, a value has the wrong type, or the result is impossible.
    """
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator:
            raise UserError(f"the setting '{setting}' is not of the form key=value")
        config = _set(config, key.strip().split("."), text.strip(), setting)
    try:
        config.validate()
    except ValueError as error:
        raise UserError(f"the settings cannot work: {error}") from error
    return config


def _set(config: Any, path: list[str], text: str, setting: str) -> Any:
    fields = get_type_hints(type(config))
    head, rest = path[0], path[1:]
    if head not in fields:
        raise UserError(f"the setting '{setting}' names no field: '{head}' is not one of {', '.join(fields)}")
    if rest:
        if not dataclasses.is_dataclass(getattr(config, head)):
            raise UserError(f"the setting '{setting}' goes too deep: '{head}' is a single value")
        return replace(config, **{head: _set(getattr(config, head), rest, text, setting)})
    if dataclasses.is_dataclass(getattr(config, head)):
        raise UserError(f"the setting '{setting}' stops at a group: name a field of '{head}'")
    return replace(config, **{head: _parse(text, fields[head], setting)})


def _parse(text: str, kind: Any, setting: str) -> Any:
    kind = next((k for k in get_args(kind) if k is not type(None)), kind)
    if kind is str:
        return text
    try:
        value = json.loads(text.lower().replace("_", ""))
    except json.JSONDecodeError as error:
        raise UserError(f"the setting '{setting}' needs a {kind.__name__}") from error
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        raise UserError(f"the setting '{setting}' needs a {kind.__name__}")
    return value
