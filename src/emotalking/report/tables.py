"""Tables of text, for pages, Markdown and LaTeX."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "→": r"$\rightarrow$",
    "↓": r"$\downarrow$",
    "–": "--",
    "−": "$-$",
    "<": "$<$",
    ">": "$>$",
}


class Bold(str):
    """A highlighted cell of a table: the best of its column."""


class Link(str):
    """A table's cell that links to a file.

    Args:
        text: link text.
        to: the file, relative to the page's folder.
    """

    to: Path

    def __new__(cls, text: str, to: Path) -> "Link":
        """See the class."""
        link = super().__new__(cls, text)
        link.to = to
        return link


@dataclass(frozen=True)
class Table:
    """Rows of cells under a header; the first column is text, the others are aligned right."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __post_init__(self) -> None:
        if any(len(row) != len(self.header) for row in self.rows):
            raise ValueError(f"rows: expected {len(self.header)} cells, got {[len(row) for row in self.rows]}")

    def markdown(self) -> str:
        """GitHub's Markdown, ending with a line break."""
        head, *body = ([_markdown(cell) for cell in line] for line in (self.header, *self.rows))
        rule = ["---", *["---:"] * (len(self.header) - 1)]
        return "".join(f"| {' | '.join(line)} |\n" for line in (head, rule, *body))

    def latex(self, caption: str = "") -> str:
        """A ``table`` with ``booktabs`` rules, ready to be put into a paper."""
        body = [f"{' & '.join(_latex(cell) for cell in row)} \\\\" for row in self.rows]
        head = f"{' & '.join(_latex(cell) for cell in self.header)} \\\\"
        lines = ["\\begin{table}", "\\centering"]
        lines += [f"\\caption{{{_latex(caption)}}}"] if caption else []
        lines += [f"\\begin{{tabular}}{{l{'r' * (len(self.header) - 1)}}}", "\\toprule", head, "\\midrule", *body]
        return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}", ""])


def _markdown(cell: str) -> str:
    text = re.sub(r"([\\|*_`<])", r"\\\1", cell).replace("\n", " ")
    return f"**{text}**" if isinstance(cell, Bold) and text else text


def _latex(cell: str) -> str:
    text = "".join(_LATEX.get(letter, letter) for letter in cell)
    return f"\\textbf{{{text}}}" if isinstance(cell, Bold) and text else text
