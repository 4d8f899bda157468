"""Emotional faces, and the paper's generator of them."""
