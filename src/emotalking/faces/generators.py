"""Makers of emotional faces for pictures, clips and subject folders."""

from emotalking.capture.face_source import FaceSource
from emotalking.generator.mesh_warp import MeshWarp, MeshWarpConfig
from emotalking.generator.protocol import EmotionGenerator


def open_generator(source: FaceSource, config: MeshWarpConfig | None = None) -> EmotionGenerator:
    """The embedded generator, made for the face of ``source``.

    Args:
        source: whose face it is.
        config: settings.
    """
    return MeshWarp(source.shape, source.layout, source.K, config)
