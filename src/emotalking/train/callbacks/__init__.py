"""What watches a run: log, previews, warnings, report."""
