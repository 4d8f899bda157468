"""Tables as text."""

import pytest

from emotalking.report import Bold, Table

TABLE = Table(["system", "PSNR ↑"], [["a_b & c|d", Bold("33.1 ± 0.2")], ["50 %", "–"]])


def test_markdown() -> None:
    assert TABLE.markdown() == (
        "| system | PSNR ↑ |\n| --- | ---: |\n| a\\_b & c\\|d | **33.1 ± 0.2** |\n| 50 % | – |\n"
    )


def test_latex_is_escaped() -> None:
    text = TABLE.latex("100 % of $x")
    assert r"\caption{100 \% of \$x}" in text
    assert r"a\_b \& c|d & \textbf{33.1 $\pm$ 0.2} \\" in text
    assert r"system & PSNR $\uparrow$ \\" in text
    assert r"\begin{tabular}{lr}" in text
    assert Table(["spread → 1"], []).latex("").count(r"spread $\rightarrow$ 1") == 1


def test_a_ragged_table_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 2 cells"):
        Table(["a", "b"], [["1"]])
