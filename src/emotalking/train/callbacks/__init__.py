"""Callbacks of a run: log, previews, warnings, report."""
