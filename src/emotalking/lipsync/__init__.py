"""Lip sync: SyncNet, the personal expert and its training, scores and the offset of a clip."""
