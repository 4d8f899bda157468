"""What README.md and docs/ show exists: commands with their options, settings, Python code, and named functions."""

import ast
import importlib
import inspect
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

import emotalking
from emotalking.cli.arguments import parameters, parse
from emotalking.cli.main import join_negative_values, load, verbs
from emotalking.errors import InputError
from emotalking.train.presets import PRESETS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    """Contents of the page's code blocks in a language."""
    return [text for kind, text in FENCE.findall(page.read_text("utf-8")) if kind == language]


def inline(page: Path) -> list[str]:
    """Inline code of the page, on one line each."""
    text = FENCE.sub("", page.read_text("utf-8"))
    return [" ".join(code.split()) for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]


def commands(page: Path) -> Iterator[tuple[str, bool]]:
    """Command lines that start with ``emotalking``, and whether they are whole (those of a code block are)."""
    for block in blocks(page, "bash"):
        block = re.sub(r"\\?\n {8,}", " ", block)  # a further line of the same command
        yield from ((line, True) for line in block.splitlines() if line.startswith("emotalking "))
    yield from ((code, False) for code in inline(page) if code.startswith("emotalking "))


def words_of(command: str) -> list[str]:
    """Words of a command line; optional parts are given, of alternatives the first, 1 for N, and no ellipsis."""
    plain = re.sub(r"(?<=\w)\|[\w|]+", "", command.replace("[", " ").replace("]", " ")).replace("--set ...", "")
    return ["1" if word == "N" else word for word in shlex.split(plain, comments=True)[1:] if word != "..."]


def check_command(command: str, whole: bool) -> None:
    """Parse a command line as the program does.

    Raises:
        InputError: it cannot be parsed; of one that is not ``whole``, positional arguments may be missing.
    """
    words = join_negative_values(words_of(command))
    known = verbs()
    name = next((verb for verb in (" ".join(words[:2]), words[0]) if verb in known), None)
    if name is None and len(words) == 1 and any(verb.startswith(f"{words[0]} ") for verb in known):
        return  # a group, such as 'emotalking faces'
    module = load(name or words[0])
    options = [*parameters(module.FUNCTION), *parameters(module.run, skip=("arguments",))]
    try:
        parse(options, words[len(str(name).split()) :], prog=f"emotalking {name}", about=module.FUNCTION)
    except InputError as error:
        if whole or not str(error).startswith("required: "):
            raise


def setting_exists(key: str) -> bool:
    """True if a dotted key names a field of a training preset."""
    value: object = PRESETS["paper"]
    for part in key.split("."):
        if not is_dataclass(value) or part not in {entry.name for entry in fields(value)}:
            return False
        value = getattr(value, part)
    return True


def resolve(path: str) -> object:
    """The object of a dotted path below ``emotalking``.

    Raises:
        AttributeError: there is none.
    """
    parts = path.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(["emotalking", *parts[:count]]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            found = getattr(found, part)
        return found
    raise AttributeError(f"no module emotalking.{parts[0]}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_command_lines_parse(page: Path) -> None:
    for command, whole in commands(page):
        try:
            check_command(command, whole)
        except InputError as error:
            pytest.fail(f"{command}\n{error}")


@pytest.mark.parametrize("name", sorted(verbs()))
def test_examples_of_the_help_parse(name: str) -> None:
    for line in re.findall(r"^  (emotalking .*)$", getattr(load(name), "EXAMPLES", ""), re.MULTILINE):
        check_command(line, whole=True)


def test_a_wrong_command_line_would_be_found() -> None:
    check_command("emotalking train someone -o a.safetensors [--preset tiny|fast] [--set ...]  # comment", True)
    for wrong in ("train someone -o a --presets tiny", "train someone", "prepared clip.mp4", "faces paint x"):
        with pytest.raises(InputError):
            check_command(f"emotalking {wrong}", whole=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_exist(page: Path) -> None:
    keys = re.findall(r"--set\s+([\w.]+)=", page.read_text("utf-8"))
    assert not [key for key in keys if not setting_exists(key)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_exist(page: Path) -> None:
    known = {"--help", "--version"}
    for script in [*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "examples").glob("*.py")]:
        known |= set(re.findall(r"(--[a-z][\w-]+)", script.read_text("utf-8")))
    for name in verbs():
        module = load(name)
        for one in (*parameters(module.FUNCTION), *parameters(module.run, skip=("arguments",))):
            known |= {one.flag, f"--no-{one.flag[2:]}"} if one.kind is bool else {one.flag}
    named = {flag for code in inline(page) for flag in re.findall(r"^(--[a-z][\w-]+)", code)}
    assert not named - known


def test_benchmarks_have_their_arguments_from_their_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        report = importlib.import_module("_report")
    for script in (ROOT / "benchmarks").glob("*.py"):
        source = script.read_text("utf-8")
        if "arguments(__doc__)" in source:
            with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit, match="0"):
                patch.setattr("sys.argv", [script.name, "--help"])
                report.arguments(ast.get_docstring(ast.parse(source), clean=False))
            usage = capsys.readouterr().out
            names = re.findall(r"\b(?:args|options)\.([a-z]\w*)", source)
            assert [name for name in names if name.strip("s_") not in usage.lower().replace("-", "_")] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_compile_and_name_what_exists(page: Path) -> None:
    for block in blocks(page, "python"):
        tree = ast.parse(block)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "emotalking":
                module = importlib.import_module(node.module or "")
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)
            elif isinstance(node, ast.Call) and ast.unparse(node.func).startswith("emotalking."):
                signature = inspect.signature(getattr(emotalking, ast.unparse(node.func).partition(".")[2]))
                signature.bind(*node.args, **{str(one.arg): one.value for one in node.keywords})


def test_functions_of_the_architecture_page_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    section = text.partition("## Four ways through the code")[2].partition("\n## ")[0]
    steps = re.findall(r"^\d+\. `([\w.]+)`", section, re.MULTILINE)
    assert len(steps) == len(re.findall(r"^\d+\. ", section, re.MULTILINE)) > 40
    packages = {path.name for path in (ROOT / "src" / "emotalking").iterdir() if path.is_dir()}
    dotted = [name for name in re.findall(r"`([a-z]\w*\.[\w.]*\w)`", section) if name.split(".")[0] in packages]
    missing = []
    for name in dict.fromkeys([*steps, *(name for name in dotted if not name.endswith((".json", ".html")))]):
        try:
            resolve(name)
        except AttributeError as error:
            missing.append(f"{name}: {error}")
    source = "\n".join(path.read_text("utf-8") for path in (ROOT / "src" / "emotalking").rglob("*.py"))
    plain = set(re.findall(r"`(_?[A-Za-z]\w+)`", section)) - {"teeth_mask", "gt_imgs"}  # folders of a subject
    missing += [name for name in sorted(plain) if not re.search(rf"\b{name}\b", source)]
    assert not missing


def test_files_of_the_contributing_page_exist() -> None:
    table = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("## Where to add what")[2].partition("\n## ")[0]
    names = re.findall(r"`([\w/]+(?:/|\.py|\.toml))`", table)
    assert len(names) > 10
    assert not [name for name in names if not any((base / name).exists() for base in (ROOT, ROOT / "src/emotalking"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_and_examples_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    named = [ROOT / name for name in re.findall(r"`((?:examples|benchmarks|tests)/[\w./]+)`", text)]
    assert not [str(path) for path in [*(page.parent / link for link in links), *named] if not path.exists()]
