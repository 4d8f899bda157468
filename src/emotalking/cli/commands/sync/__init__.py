"""Lip sync: the personal expert, and measuring a clip."""
