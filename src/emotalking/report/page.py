"""One report as a self-contained HTML page, as Markdown and as LaTeX: headings, text, tables, images and plots."""

import base64
import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import numpy as np
from jaxtyping import UInt8

from emotalking.io.files import write_bytes
from emotalking.io.images import encode_image, read_image
from emotalking.io.kinds import PAGE_MARK
from emotalking.report.plots import Plot
from emotalking.report.tables import Bold, Link, Table

Tone = Literal["good", "warn", "bad", "plain"]

_STYLE = """
:root { --ink: #1d2330; --soft: #5d6678; --line: #dde1e9; --good: #1d7f4e; --warn: #a86400; --bad: #b3261e; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: #fff; margin: 2rem auto; max-width: 72rem;
  padding: 0 1.25rem; }
h1 { font-size: 1.7rem; margin: 0 0 .25rem; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; }
p { max-width: 48rem; } .sub, figcaption { color: var(--soft); font-size: .9rem; }
.badge { border-left: .4rem solid var(--soft); padding: .5rem .9rem; margin: .6rem 0; background: #f6f7f9; }
.good { border-color: var(--good); } .warn { border-color: var(--warn); } .bad { border-color: var(--bad); }
table { border-collapse: collapse; margin: .5rem 0; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .9rem .3rem 0; text-align: left; vertical-align: top; }
th { color: var(--soft); font-weight: 600; font-size: .85rem; }
th.number, td.number { text-align: right; } td { overflow-wrap: break-word; } th { white-space: nowrap; }
.wide { overflow-x: auto; }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
figure { margin: .5rem 0; } img, svg, video { max-width: 100%; height: auto; }
.row { display: flex; flex-wrap: wrap; gap: .8rem; align-items: flex-start; }
"""


_NUMBER = re.compile(r"[-+−]?\d*\.?\d+( ?[±(/].*)?|inf|[-–]?")
"""Cell of a numeric column: a number with an interval, a p or a second number; or empty."""


class Page:
    """Collects parts from top to bottom; :meth:`write` makes the file. All text is escaped.

    Args:
        title: heading of the page and of its browser tab.
        subtitle: a smaller line beneath.
    """

    def __init__(self, title: str, subtitle: str = "") -> None:
        self._title = title
        self._parts = [f"<h1>{html.escape(title)}</h1>"]
        self._markdown = [f"# {title}\n"]
        self._latex: list[str] = []
        if subtitle:
            self._parts.append(f'<div class="sub">{html.escape(subtitle)}</div>')
            self._markdown.append(f"{subtitle}\n")

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._parts.append(f"<h2>{html.escape(text)}</h2>")
        self._markdown.append(f"## {text}\n")

    def subheading(self, text: str) -> None:
        """Begin a part of a section."""
        self._parts.append(f"<h3>{html.escape(text)}</h3>")
        self._markdown.append(f"### {text}\n")

    def text(self, text: str) -> None:
        """A paragraph."""
        self._parts.append(f"<p>{html.escape(text)}</p>")
        self._markdown.append(f"{text}\n")

    def verdict(self, text: str, tone: Tone = "plain") -> None:
        """A highlighted sentence with a coloured edge."""
        self._parts.append(f'<div class="badge {tone}">{html.escape(text)}</div>')
        self._markdown.append(f"> {text}\n")

    def table(self, header: Sequence[str] | Table, rows: Sequence[Sequence[object]] = (), caption: str = "") -> None:
        """Rows under a header, or a :class:`Table`; columns of numbers are aligned right.

        A cell is written with ``str``, and may be :class:`Bold` or a :class:`Link`. A table of text with a ``caption``
        is also one of those in :meth:`latex`.
        """
        if isinstance(header, Table):
            self._markdown.append(header.markdown())
            self._latex += [header.latex(caption)] if caption else []
            header, rows = header.header, header.rows
        columns = [[row[at] for row in rows] for at in range(len(header))]
        marks = [
            ' class="number"' if at and column and all(_NUMBER.fullmatch(str(cell)) for cell in column) else ""
            for at, column in enumerate(columns)
        ]
        head = "".join(f"<th{mark}>{html.escape(str(cell))}</th>" for mark, cell in zip(marks, header, strict=True))
        body = "".join(
            f"<tr>{''.join(f'<td{mark}>{_cell(cell)}</td>' for mark, cell in zip(marks, row, strict=True))}</tr>"
            for row in rows
        )
        self._parts.append(f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>')

    def facts(self, facts: Mapping[str, object]) -> None:
        """Names and values, two columns; nested ones by dotted names."""
        flat = _flat(facts)
        self.table(("", ""), list(flat.items()))
        self._markdown.append("".join(f"- {name}: {value}\n" for name, value in flat.items()))

    def plot(self, plot: Plot, caption: str = "") -> None:
        """A plot, as SVG."""
        self._figure(plot.svg(), caption)

    def image(self, image: UInt8[np.ndarray, "H W 3"] | Path, caption: str = "", quality: int = 88) -> None:
        """One RGB image, or that of an image file, stored as JPEG of ``quality``.

        Raises:
            InputError: the file is missing or no image.
        """
        self._figure(
            _image_tag(read_image(image, hint="make it again") if isinstance(image, Path) else image, quality, caption),
            caption,
        )

    def video(self, file: Path, caption: str = "") -> None:
        """A video beside the page, to be played in it; ``file`` is relative to the page's folder."""
        self._figure(f'<video controls preload="metadata" src="{quote(file.as_posix())}"></video>', caption)

    def images(self, images: Sequence[np.ndarray], captions: Sequence[str] = (), quality: int = 85) -> None:
        """A strip of RGB images (uint8 [H, W, 3]) side by side, wrapped to the window."""
        captions = captions or [""] * len(images)
        inner = "".join(
            f"<figure>{_image_tag(image, quality, caption)}<figcaption>{html.escape(caption)}</figcaption></figure>"
            for image, caption in zip(images, captions, strict=True)
        )
        self._parts.append(f'<div class="row">{inner}</div>')

    def html(self) -> str:
        """The whole page."""
        title = f"<title>{html.escape(self._title)}</title>"
        head = f'<meta charset="utf-8">{PAGE_MARK.decode()}{title}<style>{_STYLE}</style>'
        width = '<meta name="viewport" content="width=device-width, initial-scale=1">'
        body = "\n".join(self._parts)
        return f'<!doctype html>\n<html lang="en"><head>{head}{width}</head>\n<body>\n{body}\n</body></html>\n'

    def markdown(self) -> str:
        """Headings, text and tables as Markdown."""
        return "\n".join(self._markdown)

    def latex(self) -> str:
        """Tables with a caption as LaTeX; they need the package ``booktabs``."""
        return "\n".join(["% needs \\usepackage{booktabs}", *self._latex])

    def write_report(self, folder: Path) -> None:
        """Write ``report.html``, ``table.md`` and ``table.tex`` into ``folder``."""
        self.write(folder / "report.html")
        write_bytes(folder / "table.md", self.markdown().encode())
        write_bytes(folder / "table.tex", self.latex().encode())

    def write(self, path: str | Path) -> None:
        """Write the page; an older file is replaced only when the new one is complete."""
        write_bytes(Path(path), self.html().encode())

    def _figure(self, inner: str, caption: str) -> None:
        note = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
        self._parts.append(f"<figure>{inner}{note}</figure>")


def _flat(facts: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in facts.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _cell(cell: object) -> str:
    text = html.escape(str(cell))
    if isinstance(cell, Link):
        return f'<a href="{quote(cell.to.as_posix())}">{text}</a>'
    return f"<b>{text}</b>" if isinstance(cell, Bold) else text


def _image_tag(image: np.ndarray, quality: int, alt: str) -> str:
    height, width = image.shape[:2]
    source = base64.b64encode(encode_image(image, ".jpg", quality)).decode()
    return f'<img width="{width}" height="{height}" alt="{html.escape(alt)}" src="data:image/jpeg;base64,{source}">'
