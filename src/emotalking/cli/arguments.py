"""Command lines of typed functions: parameters, config fields and docstrings are read, and nothing is written twice.

A parameter without a default is positional, any other is an option; ``output`` is ``-o``; the fields of a config are
options of their own. Types that only a program can give (arrays, loaded objects, callbacks) are left out.
"""

import builtins
import dataclasses
import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin

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
}
"""Parameters whose option is not just their name and one value."""
PROGRAM_ONLY = ("command",)
"""Parameters that the command line fills in itself."""


class _Absent:
    """Stands for a type that a command line cannot give, and whose module is not imported for it."""


class _Names(dict[str, Any]):
    """Names of a module, for annotations; an unknown one (imported for type checking only) is absent."""

    def __missing__(self, name: str) -> Any:
        return getattr(builtins, name, _Absent)


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One parameter, or one field of a config parameter."""

    name: str
    kind: Any
    """Type, without what a command line cannot give; None: nothing is left."""
    default: Any
    help: str
    config: str | None = None
    """The config parameter that it is a field of."""

    @property
    def positional(self) -> bool:
        """Whether it is given by its place."""
        return self.default is inspect.Parameter.empty and self.name != "output"

    @property
    def takes_value(self) -> bool:
        """Whether its option is followed by a value."""
        return self.kind is not bool

    @property
    def flag(self) -> str:
        """Its option, or its name if it is positional."""
        name = "set" if self.name == "settings" else self.name.replace("_", "-")
        return name if self.positional else f"--{name}"


def parameters(function: Callable[..., Any], *, skip: Sequence[str] = ()) -> list[Parameter]:
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
        if kind is not None:
            found.append(Parameter(entry.name, kind, entry.default, helps.get(entry.name, shared)))
    return found


def parse(
    wanted: Sequence[Parameter], arguments: Sequence[str], *, prog: str, description: str, epilog: str = ""
) -> dict[str, Any]:
    """Values by name, or the help on standard output and SystemExit.

    Raises:
        InputError: the arguments are wrong; one sentence that ends with how to get help.
    """

    def collect(**values: Any) -> dict[str, Any]:
        return values

    entries = [
        inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=_argument(one))
        for one in wanted
    ]
    collect.__signature__ = inspect.Signature(entries)  # type: ignore[attr-defined]
    collect.__annotations__ = {entry.name: entry.annotation for entry in entries}
    shown = StringIO()
    try:
        with events.on_parse_error(_complain), redirect_stdout(shown):
            return tyro.cli(
                collect, args=arguments, prog=prog, description=description, config=(tyro.conf.DisallowNone,)
            )
    except SystemExit:
        print(shown.getvalue().rstrip() + (f"\n\n{epilog.strip()}" if epilog else ""))
        raise


def bind(wanted: Sequence[Parameter], values: Mapping[str, Any], function: Callable[..., Any]) -> dict[str, Any]:
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
    kind = eval(annotation, {}, names) if isinstance(annotation, str) else annotation  # noqa: S307 (our own source)
    shared = ""
    if get_origin(kind) is Annotated:
        kind, *notes = get_args(kind)
        shared = next((note.documentation for note in notes if isinstance(note, Doc)), "")
    return _reduced(kind), shared


def _reduced(kind: Any) -> Any:
    """``kind`` without absent members; None: nothing but None is left."""
    origin, members = get_origin(kind), get_args(kind)
    if kind is _Absent or origin is Callable:
        return None
    if origin in (Union, types.UnionType):
        left = [part for part in map(_reduced, members) if part not in (None, type(None))]
        if Path in left:
            left = [part for part in left if part is not str]
        if float in left:
            left = [part for part in left if part is not int]
        optional = type(None) in members
        return Union[tuple(left + [type(None)] * optional)] if left else None  # noqa: UP007
    if origin in (tuple, Sequence, Mapping, list) or (isinstance(origin, type) and issubclass(origin, Sequence)):
        parts = [part if part is ... else _reduced(part) for part in members]
        parts = parts if origin is not Sequence else [parts[0], ...]
        return origin[tuple(parts)] if issubclass(origin, Mapping) else tuple[tuple(parts)]
    return kind


def _argument(one: Parameter) -> Any:
    """What tyro is told about a parameter."""
    notes: list[Any] = [tyro.conf.arg(help=" ".join(one.help.replace("``", "'").split()))]
    form = FORMS.get(one.name, ())
    if one.positional:
        notes += [tyro.conf.Positional, tyro.conf.arg(metavar=one.name.upper())]
    spec = None if tyro.conf.UseAppendAction in form else _spec(one.kind, one.positional)
    if spec is not None:
        notes.append(spec)
    annotation: Any = one.kind
    for note in (*notes, *form):
        annotation = (
            note[annotation]
            if note in (tyro.conf.Positional, tyro.conf.UseAppendAction)
            else Annotated[annotation, note]
        )
    return annotation


def _spec(kind: Any, positional: bool) -> PrimitiveConstructorSpec[Any] | None:
    """How types that tyro reads in another way, or not at all, are read."""
    members = [part for part in get_args(kind) if part is not type(None)]
    if get_origin(kind) is Union and len(members) == 1:
        kind = members[0]
    origin, inner = get_origin(kind), get_args(kind)
    if inner == (float, float):
        return _one("A,B", pair)
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        read = named_numbers if inner[1] is int else named_paths
        return PrimitiveConstructorSpec(
            nargs="*",
            metavar="[NAME=]N" if inner[1] is int else "NAME=PATH",
            instance_from_str=read,
            is_instance=lambda value: isinstance(value, Mapping),
            str_from_instance=lambda value: [f"{name}={place}" for name, place in value.items()],
        )
    if origin is tuple and inner[-1] is ... and not positional and inner[0] is not Path:
        return _one("A,B,...", lambda text: separated(text, inner[0]))
    return None


def _one(metavar: str, read: Callable[[str], Any]) -> PrimitiveConstructorSpec[Any]:
    """One word, read by a function."""

    def write(value: Any) -> list[str]:
        return [] if value is None else [",".join(str(part) for part in value)]

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda words: read(words[0]),
        is_instance=lambda value: value is None or isinstance(value, tuple),
        str_from_instance=write,
    )


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


def named_paths(words: Sequence[str]) -> dict[str, Any]:
    """``NAME=PATH`` words; a name that comes again makes a list of paths.

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
            choices = ", ".join(event.choices)
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
