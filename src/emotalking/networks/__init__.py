"""Frozen networks that others trained: our own implementations, strict loading of their public checkpoints."""
