"""Grow and prune: Gaussians in, Gaussians out, optimizer state kept aligned."""

from emotalking.train.densify.strategy import DensifyState, densify_and_prune, sample_statistics

__all__ = ["DensifyState", "densify_and_prune", "sample_statistics"]
