"""The page is one file with everything in it, and text stays text."""

import re
from pathlib import Path

import numpy as np
import pytest

from emotalking.errors import InputError
from emotalking.io.images import write_image
from emotalking.report import Bold, Link, Page, Plot, Table, line_plot


def test_page_holds_everything_and_escapes_text(tmp_path: Path) -> None:
    page = Page("a < b", "sub & title")
    page.heading("<h>")
    page.text("x < y")
    page.verdict("unusable", "bad")
    page.table(("n", "v"), [("<td>", 1.5)])
    page.facts({"k<": 2})
    image = np.zeros((8, 12, 3), np.uint8)
    image[..., 0] = 255
    page.image(image, "red")
    page.images([image, image], ["one", "two"])
    plot = Plot(rows=2)
    plot.axes[1].plot([0, 1, 0])
    page.plot(plot, "zigzag")
    path = tmp_path / "page.html"
    page.write(path)
    text = path.read_text()
    for escaped in ("a &lt; b", "sub &amp; title", "&lt;h&gt;", "x &lt; y", "&lt;td&gt;", "k&lt;"):
        assert escaped in text
    assert text.count("data:image/jpeg;base64,") == 3 and text.count("<svg") == 1
    assert not re.search(r'(src|href)="(?!data:|#)', text.replace("xlink:", ""))
    assert "<script" not in text and "<?xml" not in text


def test_tables_align_numbers_and_mark_the_best() -> None:
    page = Page("t")
    page.table(("name", "a", "b"), [("9", Bold("1.5 ± .2"), "x"), ("8", "-", "2")])
    text = page.html()
    assert '<td class="number"><b>1.5 ± .2</b></td>' in text and '<th class="number">a</th>' in text
    assert "<td>x</td>" in text and "<td>2</td>" in text and "<td>9</td>" in text  # b holds a word, the first is a name


def test_images_come_from_files_too(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", np.full((8, 12, 3), 200, np.uint8))
    page = Page("t")
    page.image(tmp_path / "a.jpg", "grey")
    assert 'width="12" height="8"' in page.html() and "grey" in page.html()
    with pytest.raises(InputError, match=r"b\.jpg is missing"):
        page.image(tmp_path / "b.jpg")


def test_a_table_is_the_same_as_its_parts() -> None:
    pages = [Page("t"), Page("t")]
    pages[0].table(Table(("a", "b"), [("x", "1")]))
    pages[1].table(("a", "b"), [("x", "1")])
    assert pages[0].html() == pages[1].html()


def test_line_plots_draw_every_line() -> None:
    axes = line_plot([0, 1], {"a": [1, 2], "b": [3, 4]}, "s", "dB", ylim=(0, 5)).axes[0]
    assert [line.get_label() for line in axes.lines] == ["a", "b"] and axes.get_ylim() == (0, 5)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("s", "dB")


def test_plots_are_reproducible_and_of_the_asked_size() -> None:
    def draw() -> Plot:
        plot = Plot(width=3.0, height=1.0)
        plot.axes[0].plot([1, 2, 3], label="a")
        plot.axes[0].legend()
        return plot

    assert draw().svg() == draw().svg()
    assert draw().svg().startswith("<svg")
    assert draw().png().startswith(b"\x89PNG")
    assert len(Plot(rows=2, columns=3).axes) == 6


def test_a_cell_can_lead_to_a_file() -> None:
    page = Page("t")
    page.table(("name", "v"), [(Link("a & b", Path("a & b.run") / "it's.html"), 1.5)])
    assert '<td><a href="a%20%26%20b.run/it%27s.html">a &amp; b</a></td>' in page.html()


def test_one_report_is_a_page_markdown_and_latex(tmp_path: Path) -> None:
    page = Page("Comparison", "two systems")
    page.heading("Main")
    page.table(Table(["system", "PSNR"], [["ours", "33.1"]]), caption="Main_table")
    page.table(Table(["split", "frames"], [["train", "90"]]))
    page.text("One note.")
    page.verdict("Mind this.", "warn")
    page.facts({"machine": "a CPU"})
    page.write_report(tmp_path)
    text = (tmp_path / "table.md").read_text()
    for part in ("# Comparison", "two systems", "## Main", "| ours | 33.1 |", "| train | 90 |", "One note.", "> Mind"):
        assert part in text
    assert "- machine: a CPU" in text
    latex = (tmp_path / "table.tex").read_text()
    assert "booktabs" in latex and r"\caption{Main\_table}" in latex and "train" not in latex
    assert "<td>ours</td>" in (tmp_path / "report.html").read_text()
