"""The public surface: every name of ``emotalking`` with its signature, as in ``api_surface.json``.

A change of a public name or signature is a visible edit of that file: ``python tests/test_api_surface.py`` writes it.
"""

import dataclasses
import inspect
import json
import subprocess
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest

import emotalking

SURFACE = Path(__file__).with_name("api_surface.json")


def surface() -> dict[str, Any]:
    """Every public name: the signature of a function, the fields or the methods of a class, anything else its type."""
    return {name: described(getattr(emotalking, name)) for name in sorted(emotalking.__all__)}


def described(thing: Any) -> Any:
    """What a user of ``thing`` relies on."""
    if inspect.isclass(thing):
        if issubclass(thing, BaseException):
            return f"exception({thing.__base__.__name__})"
        entries = dataclasses.fields(thing) if dataclasses.is_dataclass(thing) else ()
        fields = {entry.name: plain(entry.type) for entry in entries}
        public = {name: value for name, value in vars(thing).items() if name not in fields and name[0] != "_"}
        return fields | {name: described(value) for name, value in sorted(public.items())}
    if isinstance(thing, classmethod | staticmethod):
        return described(thing.__func__)
    if inspect.isfunction(thing):
        return signature(thing)
    return type(thing).__name__


def signature(function: Callable[..., Any]) -> str:
    """A signature without the help in its annotations."""
    found = inspect.signature(function)
    parameters = []
    for one in found.parameters.values():
        known = one.annotation is not one.empty
        default = Name(f"{type(one.default).__name__}()") if dataclasses.is_dataclass(one.default) else one.default
        parameters.append(one.replace(annotation=Name(plain(one.annotation)) if known else one.empty, default=default))
    return str(found.replace(parameters=parameters, return_annotation=Name(plain(found.return_annotation))))


class Name:
    """Prints as it is."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def plain(annotation: Any) -> str:
    """An annotation as in the source, shared options as their types."""
    if isinstance(annotation, str):
        return annotation
    if typing.get_origin(annotation) is Annotated:
        return plain(typing.get_args(annotation)[0])
    if isinstance(annotation, typing.ForwardRef):
        return annotation.__forward_arg__
    return inspect.formatannotation(annotation).replace("pathlib.", "").replace("collections.abc.", "")


def test_surface_is_what_the_file_says() -> None:
    assert surface() == json.loads(SURFACE.read_text("utf-8")), (
        "python tests/test_api_surface.py writes the new surface"
    )


def test_nothing_public_returns_or_takes_any() -> None:
    functions = {name: thing for name, thing in vars(emotalking.api).items() if inspect.isfunction(thing)}
    assert set(emotalking.api.__all__) <= set(functions) and set(emotalking.api.__all__) <= set(emotalking.__all__)
    for name, function in functions.items():
        found = inspect.signature(function)
        types = [found.return_annotation, *(one.annotation for one in found.parameters.values())]
        assert "Any" not in " ".join(plain(one) for one in types), name
        assert all(one.kind is not one.VAR_KEYWORD for one in found.parameters.values()), name
        assert found.return_annotation is not found.empty and inspect.getdoc(function)


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, emotalking; from emotalking import PrepareConfig, render, train; "
        "sys.exit(repr({'torch', 'numpy', 'av', 'cv2', 'scipy', 'rich', 'tyro'} & set(sys.modules) or 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.strip() in ("", "0")


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_functions_named_as_packages_stay_functions(name: str) -> None:
    """Importing a module of the package ``emotalking.train`` must not put the package in the function's place."""
    code = f"import emotalking.{name}.config; assert emotalking.{name} is emotalking.api.{name}"
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0


if __name__ == "__main__":
    SURFACE.write_text(json.dumps(surface(), indent=1) + "\n", "utf-8")
