"""Embedded face parsing of a clip."""
