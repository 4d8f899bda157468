"""Plots in one style, drawn by matplotlib without a display and without its global state."""

import io
import re
from collections.abc import Mapping
from itertools import cycle
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

_STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e9ef",
    "axes.edgecolor": "#9aa3b2",
    "axes.labelcolor": "#5d6678",
    "xtick.color": "#5d6678",
    "ytick.color": "#5d6678",
    "lines.linewidth": 1.3,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "emotalking",
}


COLOURS = (
    "#2f6fde",
    "#e0672f",
    "#1d7f4e",
    "#8e44ad",
    "#b3261e",
    "#a86400",
    "#0f8b8d",
    "#5d6678",
    "#c2185b",
    "#7a9a01",
)
"""Line colours, in order of use."""


class Plot:
    """A figure with one or more axes in the common style.

    Args:
        rows, columns: grid of axes.
        width, height: inches (of 100 pixels on a page).

    Example:
        >>> plot = Plot(rows=2)
        >>> plot.axes[0].plot([1, 2, 3])
        >>> page.plot(plot, "caption")
    """

    def __init__(
        self, rows: int = 1, columns: int = 1, width: float = 9.0, height: float = 2.4, **options: Any
    ) -> None:
        with rc_context(_STYLE):
            self.figure = Figure(figsize=(width, height), layout="constrained")
            FigureCanvasAgg(self.figure)
            grid = self.figure.subplots(rows, columns, squeeze=False, **options)
        self.axes: list[Any] = list(grid.ravel())
        """Row by row."""

    def svg(self) -> str:
        """The drawing as an SVG element; the same plot gives the same text."""
        with rc_context(_STYLE), io.StringIO() as file:
            self.figure.savefig(file, format="svg", metadata={"Date": None})
            return re.sub(r"^.*?(?=<svg)", "", file.getvalue(), flags=re.DOTALL)

    def png(self, dpi: int = 100) -> bytes:
        """The drawing as a PNG file."""
        with rc_context(_STYLE), io.BytesIO() as file:
            self.figure.savefig(file, format="png", dpi=dpi)
            return file.getvalue()


def line_plot(
    x: ArrayLike,
    lines: Mapping[str, ArrayLike],
    xlabel: str = "",
    ylabel: str = "",
    height: float = 2.4,
    **axes: object,
) -> Plot:
    """One line a name over the same ``x``, with a legend.

    Args:
        x: abscissae, shared by all lines.
        lines: ordinates by legend label.
        height: inches.
        axes: more properties of the axes, such as ``ylim`` or ``yscale``.
    """
    plot = Plot(height=height)
    for (name, y), colour in zip(lines.items(), cycle(COLOURS)):
        plot.axes[0].plot(x, y, color=colour, label=name)
    plot.axes[0].set(xlabel=xlabel, ylabel=ylabel, **axes)
    plot.axes[0].legend(ncols=len(lines))
    return plot
