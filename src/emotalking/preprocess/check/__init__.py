"""Measurements of a footage check: pure functions on arrays, one module a subject."""
