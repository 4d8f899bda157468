"""Configuration dataclasses from and to plain values, and dotted ``key=value`` overrides of them."""

import dataclasses
import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from emotalking.errors import InputError

_RENAMED: dict[type, dict[str, str]] = {}
_REMOVED: dict[type, frozenset[str]] = {}
logger = logging.getLogger(__name__)

Config = TypeVar("Config")


def accept_old_fields(cls: type, *, renamed: Mapping[str, str] | None = None, removed: Collection[str] = ()) -> None:
    """Accept fields that the config class ``cls`` had, for one release.

    Args:
        renamed: old name: new name; in stored configs and in settings, of ``cls`` and what inherits from it.
        removed: fields that never acted; dropped from stored configs.
    """
    _RENAMED[cls] = dict(renamed or {})
    _REMOVED[cls] = frozenset(removed)


def to_dict(config: Any) -> dict[str, Any]:
    """A config as plain values, ready for JSON."""
    return dataclasses.asdict(config)


def from_dict(cls: type[Config], values: dict[str, Any]) -> Config:
    """Build the dataclass ``cls`` from plain values; an unknown key is an error, a missing one takes its default.

    Old fields are accepted (:func:`accept_old_fields`).

    Raises:
        ValueError: naming the keys that do not fit, or whose values are of another kind.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{cls.__name__} is a {type(values).__name__} instead of an object")
    hints = get_type_hints(cls)
    gone, renamed = _REMOVED.get(cls, frozenset()), _renamed(cls)
    values = {renamed.get(key, key): value for key, value in values.items() if key not in gone}
    unknown = set(values) - set(hints)
    if unknown:
        raise ValueError(f"{cls.__name__} has no field {sorted(unknown)}")
    built = {key: _built(value, hints[key], f"{cls.__name__}.{key}") for key, value in values.items()}
    make: Callable[..., Config] = cls
    return make(**built)


def _built(value: Any, kind: Any, name: str) -> Any:
    """A stored value of a field of the type ``kind``."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return from_dict(kind, value)
    if isinstance(value, list) and get_origin(kind) in (tuple, Sequence):  # JSON has no tuples
        return tuple(value)
    whole = isinstance(value, int) and not isinstance(value, bool)
    fits = {bool: isinstance(value, bool), int: whole, float: whole or isinstance(value, float)}
    if not fits.get(kind, isinstance(value, str) if kind is str else True):
        raise ValueError(f"{name} is {str(value)[:40]!r} instead of {kind.__name__}")
    return value


def upgrade(cls: type, values: dict[str, Any]) -> dict[str, Any]:
    """Stored values of the dataclass ``cls`` under the names of today; as they are, where they do not fit ``cls``."""
    try:
        return to_dict(from_dict(cls, values))
    except (ValueError, TypeError):
        return values


def override(config: Config, settings: list[str]) -> Config:
    """Apply ``key=value`` settings with dotted keys (``face.iterations=2000``); an old name is logged as a warning.

    Raises:
        InputError: if a key does not exist, a value has the wrong type, or the result is impossible.
    """
    changed: Any = config
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator:
            raise InputError(f"the setting '{setting}' is not of the form key=value")
        changed = _set(changed, key.strip().split("."), text.strip(), setting)
    try:
        changed.validate()
    except ValueError as error:
        raise InputError(f"the settings cannot work: {error}") from error
    return changed


def _renamed(cls: type) -> dict[str, str]:
    """The fields of ``cls`` and of what it inherits from that have new names."""
    return {old: new for base in cls.__mro__ for old, new in _RENAMED.get(base, {}).items()}


def _set(config: Any, path: list[str], text: str, setting: str) -> Any:
    fields = get_type_hints(type(config))
    head, rest = path[0], path[1:]
    renamed = _renamed(type(config)).get(head)
    if renamed is not None:
        logger.warning("the setting '%s' is called '%s' now: the next release drops the old name", head, renamed)
        head = renamed
    if head not in fields:
        raise InputError(f"the setting '{setting}' names no field: '{head}' is not one of {', '.join(fields)}")
    if rest:
        if not dataclasses.is_dataclass(getattr(config, head)):
            raise InputError(f"the setting '{setting}' is too deep: '{head}' is a single value")
        return replace(config, **{head: _set(getattr(config, head), rest, text, setting)})
    if dataclasses.is_dataclass(getattr(config, head)):
        raise InputError(f"the setting '{setting}' stops at a group: name a field of '{head}'")
    return replace(config, **{head: _parse(text, fields[head], setting)})


def _parse(text: str, kind: Any, setting: str) -> Any:
    kind = next((k for k in get_args(kind) if k is not type(None)), kind)
    if kind is str:
        return text
    try:
        value = json.loads(text.lower().replace("_", ""))
    except json.JSONDecodeError as error:
        raise InputError(f"the setting '{setting}' cannot be used: expected {kind.__name__}") from error
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        raise InputError(f"the setting '{setting}' cannot be used: expected {kind.__name__}")
    return value
