"""Still figures: attention, normals, masks and layers, the grid of emotions, and the comparison."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from emotalking.evaluate.compare import check_size, common_frames
from emotalking.faces.edit import grid_points
from emotalking.figures.material import Material, Output
from emotalking.models.head import Layer
from emotalking.ops.composite import to_uint8
from emotalking.player.views import ATTENTION, attention_view, full_attention, normal_colours
from emotalking.preprocess.preview import mask_panel
from emotalking.report.contact_sheet import contact_sheet

GRID = 5
"""Images along each axis of the grid."""
OURS = "EmoTalking"
"""Name of the avatar in the comparison."""
_CELL = 320


def attention(material: Material, output: Output) -> str:
    """Attention maps (paper S7), each on its own and together."""
    full = full_attention(material.avatar)
    images, captions = [], []
    for index, maps, frames in material.maps():
        views = {"rendered": frames.rgb}
        views |= {ATTENTION[name]: attention_view(maps, frames.rgb, full, name) for name in full}
        views["all of them"] = attention_view(maps, frames.rgb, full)
        images += [to_uint8(view[0]) for view in views.values()]
        captions += [f"{name}, frame {index}" if name == "rendered" else name for name in views]
    title = "Attention of the face's Gaussians"
    output.image("attention.png", contact_sheet(images, captions, columns=len(full) + 2, cell=_CELL, title=title))
    whole = ", ".join(f"{ATTENTION[name]} {value:.2f}" for name, value in full.items())
    return (
        "What the networks attend to: the L2 norm of each Gaussian's attention vector, splatted over the darkened image"
        f" of held-out frames; blue is none, dark red the 99th percentile over the Gaussians ({whole}). Last column:"
        " audio red, action units green, emotion blue. As in the paper's figure S7."
    )


def normals(material: Material, output: Output) -> str:
    """Given and rendered normals."""
    images = []
    captions = []
    angles = []
    for index, maps, frames in material.maps():
        given = material.subject.normals(index)
        assert given is not None
        known = np.abs(given).max(-1) > 0
        rendered = maps.normals[0].cpu().numpy()
        angle = np.degrees(np.arccos(np.clip((given * rendered).sum(-1), -1, 1)))
        seen = known & (maps.face.alpha[0].cpu().numpy() > 0.5)
        angles.append(float(angle[seen].mean()) if seen.any() else np.nan)
        theirs = normal_colours(torch.from_numpy(given)[None], torch.from_numpy(known)[None].float())
        ours = normal_colours(maps.normals, maps.face.alpha)
        images += [to_uint8(frames.rgb[0]), to_uint8(theirs[0]), to_uint8(ours[0])]
        captions += [f"rendered, frame {index}", "normals given", f"normals rendered ({angles[-1]:.0f}° apart)"]
    output.image("normals.png", contact_sheet(images, captions, columns=3, cell=_CELL, title="Normals"))
    without = "" if material.avatar.metadata.get("normal_maps") else "; this avatar was trained without normal terms"
    return (
        "Normals of the face in held-out frames: those in the subject folder, and those of the Gaussians; they differ"
        f" by {np.nanmean(angles):.1f}° in the mean{without}. Camera space: red to the right, green up, blue to the"
        " camera."
    )


def layers(material: Material, output: Output) -> str:
    """Masks, and the layers that are composed."""
    subject = material.subject
    images = []
    captions = []
    for index, maps, frames in material.maps():
        recorded, masks = subject.target(index), subject.masks(index)
        row = {
            f"recorded, frame {index}": recorded,
            "masks": mask_panel(recorded, masks.labels, masks.teeth),
            "mouth": _straight(maps.mouth),
            "face": _straight(maps.face),
            "torso": subject.torso(index),
            "background": subject.background,
            "composed": to_uint8(frames.rgb[0]),
        }
        images += row.values()
        captions += row
    columns = len(captions) // len(material.frames)
    output.image("layers.png", contact_sheet(images, captions, columns=columns, cell=_CELL, title="Masks and layers"))
    return (
        "Masks of held-out frames (skin blue, hair violet, mouth red, teeth white, neck green, clothes orange), and the"
        " layers of the rendered frame: inside of the mouth and face are Gaussians, torso and background images; the"
        " face lies over the mouth over the torso over the background (paper S9, S10). Chequers are transparent."
    )


def _straight(layer: Layer) -> UInt8[np.ndarray, "H W 4"]:
    """The first frame of a layer with straight alpha."""
    alpha: Float[Tensor, "H W 1"] = layer.alpha[0, ..., None]
    return to_uint8(torch.cat([layer.rgb[0] / alpha.clamp(min=1e-3), alpha], -1).clamp(0.0, 1.0))


def interpolation(material: Material, output: Output) -> str:
    """A face over the plane of valence and arousal."""
    points = grid_points(GRID)
    indices = np.full(len(points), material.still, np.int64)
    faces = [image[material.box.index] for image in material.rendered(indices, np.array(points, np.float32))]
    captions = [f"v {valence:+.1f}, a {arousal:+.1f}" for valence, arousal in points]
    title = "Valence (to the right) and arousal (up)"
    output.image("interpolation.png", contact_sheet(faces, captions, columns=GRID, cell=240, title=title))
    return (
        f"One held-out frame ({material.still}) with {GRID} x {GRID} commanded emotions: valence from -0.8 to 0.8 from"
        " left to right, arousal from -0.8 to 0.8 from below. Pose, speech and action units are the same."
    )


def comparison(material: Material, output: Output) -> str:
    """Recording, avatar and other systems on the same held-out frames."""
    systems, subject = material.systems, material.subject
    common = common_frames(systems)
    for system in systems:
        check_size(system, common, subject)
    indices = material.frames
    if not np.isin(indices, common).all():
        indices = common[np.linspace(0, len(common) - 1, min(len(indices), len(common))).round().astype(int)]
    rows = {"recorded": [subject.target(int(index)) for index in indices]}
    rows[OURS] = list(material.rendered(indices, material.own(indices)))
    rows |= {system.name: list(system.frames(indices)) for system in systems}
    captions = [f"{name}, frame {index}" for name in rows for index in indices]
    images = [image for row in rows.values() for image in row]
    box = material.box
    for file, shown in (("comparison.png", images), ("comparison_faces.png", [image[box.index] for image in images])):
        title = f"{len(rows) - 1} systems on the same frames"
        output.image(file, contact_sheet(shown, captions, columns=len(indices), cell=_CELL, title=title))
    notes = " ".join(f"{system.name}: {system.source.note}." for system in systems if system.source.note)
    return (
        f"Held-out frames as recorded, of this avatar ({OURS}, driven by each frame's own sound, action units, emotion"
        f" and pose), and of {', '.join(system.name for system in systems)}; whole, and the faces alone. {notes}"
    ).rstrip()
