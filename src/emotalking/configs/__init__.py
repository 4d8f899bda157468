"""Dataclasses and presets; no torch objects."""
