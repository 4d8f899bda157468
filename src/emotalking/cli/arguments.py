"""Command lines of typed functions: parameters, config fields and docstrings are their only source.

A parameter without a default is positional, any other is an option; ``output`` is ``-o``; the fields of a config are
options of their own. Types that only a program can give (arrays, loaded objects, callbacks) are left out.
"""

import builtins
import dataclasses
import inspect
import re
import types
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from fractions import Fraction
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, ForwardRef, Literal, NoReturn, Union, get_args, get_origin

import docstring_parser
import tyro
from typing_extensions import Doc
from tyro import _errors as events  # the only way to a message without tyro's box around it
from tyro.constructors import PrimitiveConstructorSpec

from emotalking.errors import InputError

FORMS: dict[str, tuple[Any, ...]] = {
    "output": (tyro.conf.arg(aliases=["-o"]),),
    "settings": (tyro.conf.arg(name="set", metavar="KEY=VALUE"), tyro.conf.UseAppendAction),
    "emotions": (tyro.conf.UseAppendAction,),
    "gaze": (tyro.conf.arg(metavar="WHERE"),),
}
"""Parameters whose option differs from their name and one value."""
WORDS = ("names", "avatars")
"""Parameters with a default that are positional arguments all the same, of which there may be none."""
_METAVARS = {"names": "[NAME ...]", "avatars": "[AVATAR ...]", "systems": "NAME=PATH", "clips": "NAME=VIDEO"}
PROGRAM_ONLY = ("command",)
"""Parameters that the command line fills in itself."""


class _Absent:
    """Stand-in for a type that a command line cannot give; its module is not imported."""


class _Names(dict[str, Any]):
    """Names of a module, for annotations; an unknown one (imported for type checking only) is absent."""

    def __missing__(self, name: str) -> Any:
        return getattr(builtins, name, _Absent)


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One parameter, or one field of a config parameter."""

    name: str
    kind: Any
    """Type, without what a command line cannot give; None: no type remains."""
    default: Any
    help: str
    config: str | None = None
    """The config parameter that it is a field of."""

    @property
    def positional(self) -> bool:
        """True for a positional argument."""
        return self.name in WORDS or self.default is inspect.Parameter.empty and self.name != "output"

    @property
    def flag(self) -> str:
        """Its option."""
        return "--set" if self.name == "settings" else f"--{self.name.replace('_', '-')}"

    @property
    def mapping(self) -> bool:
        """True if it is given as ``NAME=VALUE`` words."""
        return _mapping(self.kind) is not None

    @property
    def start(self) -> Any:
        """Default that the parser begins with."""
        return () if self.mapping and not self.positional else self.default

    @property
    def hint(self) -> str:
        """Default, for the help."""
        if self.default is inspect.Parameter.empty:
            return "" if self.positional else "(required)"
        if isinstance(self.default, tuple):
            return f"(default: {','.join(map(str, self.default))})" if self.default else ""
        if isinstance(self.default, bool):
            return f"(default: {'on' if self.default else 'off'})"
        return "" if self.default in (None, {}) else f"(default: {self.default})"


def parameters(function: Callable[..., object], *, skip: Sequence[str] = ()) -> list[Parameter]:
    """Parameters of a function as its command line has them, configs as their fields."""
    found: list[Parameter] = []
    helps = _helps(inspect.getdoc(function) or "")
    for entry in inspect.signature(function).parameters.values():
        if entry.name in (*PROGRAM_ONLY, *skip) or entry.kind is entry.VAR_KEYWORD:
            continue
        if dataclasses.is_dataclass(entry.default):
            found += _fields(entry.name, entry.default)
            continue
        kind, shared = _resolved(entry.annotation, function)
        if kind is Path and isinstance(entry.default, str):
            kind = str
        if kind is not None:
            found.append(Parameter(entry.name, kind, entry.default, helps.get(entry.name, shared)))
    return found


def parse(
    wanted: Sequence[Parameter], arguments: Sequence[str], *, prog: str, about: Callable[..., object], epilog: str = ""
) -> dict[str, Any]:
    """Values by name; of ``--help``, the help on standard output and SystemExit.

    Args:
        about: its docstring is the description.

    Raises:
        InputError: the arguments are wrong; one sentence that ends with how to get help.
    """

    fields = [
        (one.name, _argument(one))
        if one.start is inspect.Parameter.empty
        else (one.name, _argument(one), dataclasses.field(default=one.start))
        for one in wanted
    ]
    parsed_type = dataclasses.make_dataclass("Arguments", fields, kw_only=True)
    parsed = docstring_parser.parse(inspect.getdoc(about) or "")
    description = _plain(f"{parsed.short_description} {parsed.long_description or ''}")
    captured = StringIO()
    try:
        with events.on_parse_error(_complain), redirect_stdout(captured):
            values = vars(
                tyro.cli(
                    parsed_type, args=arguments, prog=prog, description=description, config=(tyro.conf.DisallowNone,)
                )
            )
    except SystemExit:
        print(_without_required(captured.getvalue().rstrip()) + (f"\n\n{epilog.strip()}" if epilog else ""))
        raise
    for one in wanted:
        if one.positional and one.start is inspect.Parameter.empty and values[one.name] == ():
            raise InputError(f"required: {one.name}: see '{prog} --help'")
        if one.mapping and values[one.name] == ():
            values[one.name] = one.default
        elif one.mapping:
            kind = get_args(_mapping(one.kind))[1]
            try:
                values[one.name] = named_numbers(values[one.name]) if kind is int else named_paths(values[one.name])
                twice = next((name for name, path in values[one.name].items() if isinstance(path, list)), None)
                if twice is not None and kind is Path:
                    raise ValueError(f"two systems are called {twice}: give each its own name")
            except ValueError as error:
                raise InputError(f"argument {one.name}: {error}: see '{prog} --help'") from None
    return values


def bind(wanted: Sequence[Parameter], values: Mapping[str, Any], function: Callable[..., object]) -> dict[str, Any]:
    """Arguments of ``function`` from parsed values: fields are put into their configs."""
    bound = {one.name: values[one.name] for one in wanted if one.config is None}
    for name in dict.fromkeys(one.config for one in wanted if one.config is not None):
        fields = {one.name: values[one.name] for one in wanted if one.config == name}
        bound[name] = dataclasses.replace(inspect.signature(function).parameters[name].default, **fields)
    return bound


def _fields(name: str, config: Any) -> list[Parameter]:
    """Fields of a config; its inner configs are settings, not options."""
    parsed = docstring_parser.parse_from_object(type(config))
    helps = {one.arg_name: one.description or "" for one in parsed.params}
    found = []
    for entry in dataclasses.fields(config):
        kind, shared = _resolved(entry.type, type(config))
        value = getattr(config, entry.name)
        if kind is not None and not dataclasses.is_dataclass(value):
            found.append(Parameter(entry.name, kind, value, helps.get(entry.name, shared), name))
    return found


def _helps(docstring: str) -> dict[str, str]:
    helps: dict[str, str] = {}
    for one in docstring_parser.parse(docstring).params:
        for name in one.arg_name.split(","):
            helps[name.strip()] = one.description or ""
    return helps


def _resolved(annotation: Any, owner: Any) -> tuple[Any, str]:
    """A type without what a command line cannot give, and its shared help."""
    names = _Names(vars(inspect.getmodule(owner) or builtins))
    kind = eval(annotation, {}, names) if isinstance(annotation, str) else annotation
    shared = ""
    if get_origin(kind) is Annotated:
        kind, *notes = get_args(kind)
        shared = next((note.documentation for note in notes if isinstance(note, Doc)), "")
        kind = eval(kind.__forward_arg__, {}, names) if isinstance(kind, ForwardRef) else kind
    return _reduced(kind), shared


def _reduced(kind: Any) -> Any:
    """``kind`` without absent members; None: only None remains."""
    origin: Any = get_origin(kind)
    members = get_args(kind)
    if kind is _Absent or origin is Callable:
        return None
    if origin in (Union, types.UnionType):
        left = [part for part in map(_reduced, members) if part not in (None, type(None))]
        if Path in left:
            left = [part for part in left if part is not str]
        if float in left:
            left = [part for part in left if part is not int]
        if Fraction in left:  # exact rates are given as text
            left = [str]
        optional = type(None) in members
        # None first: tyro compares defaults in this order, and loads typeguard for a tuple.
        return Union[tuple([type(None)] * optional + left)] if left else None  # noqa: UP007
    if origin in (tuple, Sequence, Mapping, list) or (isinstance(origin, type) and issubclass(origin, Sequence)):
        parts = [part if part is ... else _reduced(part) for part in members]
        parts = parts if origin is not Sequence else [parts[0], ...]
        return types.GenericAlias(origin if issubclass(origin, Mapping) else tuple, tuple(parts))
    return kind


def _argument(one: Parameter) -> Any:
    """Argument configuration of a parameter for tyro."""
    kind: Any = tuple[str, ...] if one.mapping else one.kind
    notes: list[Any] = [tyro.conf.arg(help=_plain(one.help), help_behavior_hint=one.hint)]
    if one.positional:
        notes += [tyro.conf.arg(metavar=_METAVARS.get(one.name, one.name.upper())), tyro.conf.Positional]
    elif one.mapping:
        metavar = "[NAME=]N" if get_args(_mapping(one.kind))[1] is int else "NAME=PATH"
        notes += [tyro.conf.arg(metavar=metavar), tyro.conf.UseAppendAction]
    elif one.name not in FORMS:
        notes += _specs(kind)
    for note in (*notes, *FORMS.get(one.name, ())):
        marker = note in (tyro.conf.Positional, tyro.conf.UseAppendAction)
        kind = note[kind] if marker else Annotated[kind, note]
    return kind


def _specs(kind: Any) -> list[PrimitiveConstructorSpec[Any]]:
    """Parsers of types that tyro parses differently."""
    members = [part for part in get_args(kind) if part is not type(None)]
    if get_origin(kind) is Union and len(members) == 1:
        kind = members[0]
    if kind in (int, float):
        return [_word("N" if kind is int else "X", lambda text: _number(kind, text), kind)]
    inner = get_args(kind)
    if inner == (float, float):
        return [_word("A,B", pair, tuple)]
    if get_origin(kind) is tuple and inner[-1] is ... and inner[0] is not Path:
        return [_word("A,B,...", lambda text: separated(text, inner[0]), tuple)]
    return []


def _word(metavar: str, read: Callable[[str], Any], kind: type) -> PrimitiveConstructorSpec[Any]:
    """One word, read by a function."""
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda words: read(words[0]),
        is_instance=lambda value: value is None or isinstance(value, int | kind),
        str_from_instance=lambda value: [",".join(map(str, value)) if isinstance(value, tuple) else str(value)],
    )


def _number(kind: Callable[[str], Any], text: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"expected {'int' if kind is int else 'a number'}, got '{text}'") from None


def _mapping(kind: Any) -> Any:
    """The mapping type that ``kind`` is, also as an optional one; None: no mapping."""
    members = get_args(kind) if get_origin(kind) is Union else (kind,)
    origins = [(one, get_origin(one)) for one in members]
    return next((one for one, origin in origins if isinstance(origin, type) and issubclass(origin, Mapping)), None)


def _without_required(text: str) -> str:
    """Help without the "(required)" that tyro puts after every positional argument, which cannot be anything else."""
    positional, heading, options = text.partition("\n options ")
    return re.sub(r"\n? +\(required\) *$", "", positional, flags=re.MULTILINE) + heading + options


def _plain(text: str) -> str:
    """A docstring's text without markup, in the command line's terms."""
    text = " ".join(text.split())
    text = re.sub(r"\bNone: ", "default: ", text)
    text = re.sub(r":\w+:`~?\.?([^`]+)`", r"'\1'", text)
    return text.replace("``", "'")


def pair(text: str) -> tuple[float, float]:
    """Two numbers with a comma between them.

    Raises:
        ValueError: it is something else.
    """
    try:
        first, second = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"'{text}' is not two numbers such as 0.5,-0.3") from None
    return first, second


def separated(text: str, kind: Any) -> tuple[Any, ...]:
    """Words with commas between them, each of type ``kind`` (a Literal, float or str).

    Raises:
        ValueError: one cannot be read.
    """
    words = [word.strip() for word in text.split(",")]
    if kind is float:
        try:
            return tuple(float(word) for word in words)
        except ValueError:
            raise ValueError(f"'{text}' is not a number, or several with commas") from None
    if get_origin(kind) is Literal and (unknown := [word for word in words if word not in get_args(kind)]):
        raise ValueError(f"invalid choice: '{unknown[0]}' (choose from {', '.join(map(str, get_args(kind)))})")
    return tuple(words)


def named_paths(words: Sequence[str]) -> dict[str, str | list[str]]:
    """``NAME=PATH`` words; a repeated name gives a list of paths.

    Raises:
        ValueError: one is of another form.
    """
    found: dict[str, list[str]] = {}
    for word in words:
        name, separator, path = word.partition("=")
        if not separator or not name.strip() or not path:
            raise ValueError(f"'{word}' is not of the form NAME=PATH, such as ours=someone.safetensors")
        found.setdefault(name.strip(), []).append(path)
    return {name: paths[0] if len(paths) == 1 else paths for name, paths in found.items()}


def named_numbers(words: Sequence[str]) -> dict[str, int]:
    """``[NAME=]NUMBER`` words; the empty name stands for all.

    Raises:
        ValueError: one is of another form.
    """
    found: dict[str, int] = {}
    for word in words:
        name, _, number = word.rpartition("=")
        if not number.strip().isdecimal():
            raise ValueError(f"{word} is no frame number: give one such as 1617, or NAME=1617")
        found[name.strip()] = int(number)
    return found


def _complain(event: events.ParseErrorEvent) -> NoReturn:
    """One sentence for what tyro would draw in a box."""
    raise InputError(f"{_sentence(event)}: see '{event.prog} --help'")


def _sentence(event: events.ParseErrorEvent) -> str:
    match event:
        case events.MissingArgs():
            if event.unrecognized_tokens:
                return f"unrecognized arguments: {' '.join(event.unrecognized_tokens)}"
            return f"required: {', '.join(_name(one.arg) for one in event.missing_arguments)}"
        case events.InvalidChoice():
            choices = ", ".join(choice for choice in event.choices if choice != "None")
            return f"argument {_name(event.argument)}: invalid choice: '{event.value}' (choose from {choices})"
        case events.UnrecognizedArgs():
            return f"unrecognized arguments: {' '.join(event.tokens)}"
        case events.BadValue():
            return f"argument {_name(event.argument)}: a value is missing"
        case events.InstantiationFailure():
            name = "" if event.argument is None else f"argument {_name(event.argument)}: "
            return name + event.message.strip().rstrip(".")
        case _:
            return "these arguments do not fit together"


def _name(argument: Any) -> str:
    """An argument as the user writes it."""
    if argument.is_positional():
        return str(argument.lowered.metavar).lower()
    return "/".join(argument.lowered.name_or_flags)
