"""Where the eyes look: as recorded."""

import numpy as np
from jaxtyping import Float

from emotalking.data.gaze import camera_direction
from emotalking.player.protocols import PlayableAvatar


def recorded_glances(avatar: PlayableAvatar) -> Float[np.ndarray, "P 2"] | None:
    """Recorded gaze of an avatar from the direction to the camera, radians; None: its gaze cannot be steered."""
    gaze = getattr(avatar, "gaze", None)
    return None if gaze is None else np.asarray(gaze, np.float64) - camera_direction(avatar.viewmats)
