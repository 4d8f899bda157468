"""Class borders at full resolution: the guided filter that snaps coarse scores to the edges of the image."""

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

GUIDE_RADIUS, GUIDE_EPSILON = 5, 4e-4
"""Window (working pixels) and regulariser of the guided filter (He et al. 2013), colours in [0, 1]."""


def guided_upsample(
    scores: Float32[np.ndarray, "h w C"], image: UInt8[np.ndarray, "H W 3"]
) -> Float32[np.ndarray, "C H W"]:
    """Bring class scores to the image's resolution so that their borders follow its edges.

    Source: guided filter with a colour guide (He, Sun, Tang 2013), its coefficients computed small and applied large
    (He, Sun 2015). The last class is what the others leave.

    Args:
        scores: probabilities that sum to 1 over the classes.
        image: RGB guide.

    Returns:
        One plane a class, which is what the decisions afterwards read fastest; values leave [0, 1] slightly.
    """
    height, width = image.shape[:2]
    small = cv2.resize(image, scores.shape[1::-1], interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    targets = np.ascontiguousarray(scores[..., :-1])

    def mean(x: np.ndarray) -> np.ndarray:
        return cv2.blur(x, (2 * GUIDE_RADIUS + 1, 2 * GUIDE_RADIUS + 1), borderType=cv2.BORDER_REFLECT)

    mean_guide, mean_target = mean(small), mean(targets)
    r, g, b = (small[..., c] for c in range(3))
    second = mean(np.dstack([r * r, r * g, r * b])), mean(np.dstack([g * g, g * b, b * b]))
    mr, mg, mb = (mean_guide[..., c] for c in range(3))
    rr, rg, rb = second[0][..., 0] - mr * mr, second[0][..., 1] - mr * mg, second[0][..., 2] - mr * mb
    gg, gb, bb = second[1][..., 0] - mg * mg, second[1][..., 1] - mg * mb, second[1][..., 2] - mb * mb
    rr, gg, bb = rr + GUIDE_EPSILON, gg + GUIDE_EPSILON, bb + GUIDE_EPSILON
    # Inverse of the symmetric 3x3 covariance by cofactors.
    i_rr, i_rg, i_rb = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
    i_gg, i_gb, i_bb = rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg
    determinant = rr * i_rr + rg * i_rg + rb * i_rb
    planes = [np.multiply(image[..., k], np.float32(1 / 255), dtype=np.float32) for k in range(3)]
    result = np.empty((scores.shape[-1], height, width), np.float32)
    for c in range(targets.shape[-1]):
        target = targets[..., c]
        cross = mean(small * target[..., None]) - mean_guide * mean_target[..., c : c + 1]
        cr, cg, cb = (cross[..., k] / determinant for k in range(3))
        slope = [
            i_rr * cr + i_rg * cg + i_rb * cb,
            i_rg * cr + i_gg * cg + i_gb * cb,
            i_rb * cr + i_gb * cg + i_bb * cb,
        ]
        offset = mean_target[..., c] - slope[0] * mr - slope[1] * mg - slope[2] * mb
        cv2.resize(mean(offset), (width, height), dst=result[c], interpolation=cv2.INTER_LINEAR)
        for part, plane in zip(slope, planes, strict=True):
            cv2.accumulateProduct(cv2.resize(mean(part), (width, height)), plane, result[c])
    np.subtract(1, result[:-1].sum(0), out=result[-1])
    return result
