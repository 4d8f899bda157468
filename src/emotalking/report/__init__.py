"""Self-contained HTML pages and plots: footage checks, previews, training and evaluation reports."""

from emotalking.report.page import Page
from emotalking.report.plots import Plot

__all__ = ["Page", "Plot"]
