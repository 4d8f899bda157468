"""MediaPipe's 478 face points by name (the published numbering of its face mesh and irises)."""

from emotalking.data.layouts import FaceLayout

_RIGHT_UPPER_LID = (33, 246, 161, 160, 159, 158, 157, 173, 133)
_RIGHT_LOWER_LID = (33, 7, 163, 144, 145, 153, 154, 155, 133)
_LEFT_UPPER_LID = (263, 466, 388, 387, 386, 385, 384, 398, 362)
_LEFT_LOWER_LID = (263, 249, 390, 373, 374, 380, 381, 382, 362)
_OVAL = (
    (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377)
    + (152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)
)  # fmt: skip
_RIGID = (
    (168, 6, 197, 195, 5, 4, 1)  # nose ridge
    + (122, 351, 196, 419, 236, 456, 193, 417)  # sides of the nose bridge
    + (33, 133, 362, 263)  # eye corners
    + (10, 151, 9, 8, 109, 338, 67, 297, 103, 332, 54, 284, 108, 337)  # forehead
    + (21, 251, 162, 389, 127, 356, 71, 301)  # temples
    + (143, 372, 35, 265)  # outer rims of the eye sockets
)
_IBUG68 = (
    (127, 234, 132, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 361, 454, 356)  # jaw
    + (70, 63, 105, 66, 107, 336, 296, 334, 293, 300)  # brows
    + (168, 197, 5, 4, 98, 97, 2, 326, 327)  # nose
    + (33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380)  # eyes
    + (61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91)  # outer lips
    + (78, 81, 13, 311, 308, 402, 14, 178)  # inner lips
)  # fmt: skip

MEDIAPIPE_LAYOUT = FaceLayout(
    name="mediapipe478",
    right_upper_lid=_RIGHT_UPPER_LID,
    right_lower_lid=_RIGHT_LOWER_LID,
    left_upper_lid=_LEFT_UPPER_LID,
    left_lower_lid=_LEFT_LOWER_LID,
    right_brow=(70, 63, 105, 66, 107),
    left_brow=(300, 293, 334, 296, 336),
    lips_outer=(61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146),
    lips_inner=(78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95),
    oval=_OVAL,
    nose=(168, 6, 197, 195, 5, 4),
    right_iris=(468, 469, 470, 471, 472),
    left_iris=(473, 474, 475, 476, 477),
    rigid=_RIGID,
    ibug68=_IBUG68,
)
"""Groups of the MediaPipe face landmarker (468 face points, then 5 of each iris)."""
