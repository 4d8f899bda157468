"""Self-contained HTML pages and plots: footage checks, previews, training and evaluation reports."""

from emotalking.report.page import Page
from emotalking.report.plots import Plot, line_plot
from emotalking.report.tables import Bold, Link, Table

__all__ = ["Bold", "Link", "Page", "Plot", "Table", "line_plot"]
