"""Self-contained HTML pages and plots: footage checks, previews, training and evaluation reports."""

from emotalking.report.page import Bold, Link, Page
from emotalking.report.plots import Plot

__all__ = ["Bold", "Link", "Page", "Plot"]
