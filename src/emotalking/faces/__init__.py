"""Emotional faces of images, clips and subject folders (``emotalking faces``)."""
