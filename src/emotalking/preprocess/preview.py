"""Preview of a subject folder: a video with landmarks, axes, masks, action units, emotion and sound, and a page.

Works on every subject folder, prepared or imported. Frames are drawn one by one on all cores; memory does not grow with
the clip's length.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import soundfile
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from emotalking.data import Subject, validate
from emotalking.data.labels import Label
from emotalking.data.layouts import FaceLayout
from emotalking.data.readers import read_table
from emotalking.errors import InputError
from emotalking.io.audio import iter_audio
from emotalking.io.video_writer import AUDIO_RATE, VideoWriter
from emotalking.preprocess.pose.rigid import euler_angles
from emotalking.preprocess.pose.track import project
from emotalking.preprocess.steps import map_frames
from emotalking.progress import track
from emotalking.report import Page, Plot, line_plot
from emotalking.report.page import Tone

PLOTTED_UNITS = ("AU01", "AU04", "AU05", "AU06", "AU07", "AU12", "AU25", "AU45")
"""Action units whose curves are drawn, where the folder has them."""
CELLS = 6
"""Cells of the drawn sound in a frame."""
AXIS = 0.06
"""Length of the drawn axes, world units."""
_TRAIL_S = 1.0
_TONES: dict[str, Tone] = {"error": "bad", "warning": "warn", "note": "plain"}
WIDTH, HEIGHT = 1280, 864
SIDE = 480
"""Side of the two panels, pixels."""
LEFT = 16
TOP = 60
GAP = 16
GROUND = (15, 18, 26)
PANEL = (24, 29, 40)
INK = (232, 236, 244)
SOFT = (138, 148, 168)
LINE = (48, 56, 74)
COLOURS = {
    Label.HEAD: (86, 156, 255),
    Label.HAIR: (190, 120, 255),
    Label.MOUTH: (255, 92, 122),
    Label.NECK: (92, 214, 150),
    Label.TORSO: (255, 178, 84),
}
"""Colours of the mask overlay; easier to distinguish on a face than those of the files."""
TEETH = (255, 255, 255)
CURVES = ((86, 156, 255), (92, 214, 150), (255, 178, 84), (255, 92, 122), (190, 120, 255), (92, 216, 230))
AXES = ((255, 92, 92), (92, 230, 120), (92, 156, 255))
WINDOW_S = 3.0
"""The strips show this much before and after the frame."""
STRIP_LEFT = 80
STRIP_TOP = 588
STRIP_WIDTH = WIDTH - STRIP_LEFT - LEFT
STRIP_HEIGHT = 260
WAVE_HEIGHT = 56
PAD = (LEFT + 2 * (SIDE + GAP), TOP, WIDTH - 2 * LEFT - 2 * (SIDE + GAP))
"""Left, top and side of the valence/arousal square."""


def make_preview(subject: Subject) -> tuple[Path, Path]:
    """Write ``preview.mp4`` and ``preview.html`` into the subject's folder and return their paths.

    Raises:
        InputError: frames, masks, landmarks or action units are missing.
    """
    root = subject.files.root
    video, page = root / "preview.mp4", root / "preview.html"
    drawing = _Drawing(subject)
    keep = drawing.representative_frames()
    kept: dict[int, np.ndarray] = {}
    sound = iter_audio(subject.files.audio, AUDIO_RATE) if subject.files.audio.exists() else None
    frames = map_frames(range(subject.num_frames), lambda _, index: drawing.frame(index))
    with VideoWriter(video, WIDTH, HEIGHT, subject.fps, sound) as writer:
        for index, image in enumerate(track(frames, "preview", subject.num_frames)):
            writer.write(image)
            if index in keep:
                kept[index] = image
    _write_page(drawing, {keep[index]: image for index, image in kept.items()}, page)
    return video, page


class _Drawing:
    """State that the frames share."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.track = subject.landmarks
        names = tuple(name for name in PLOTTED_UNITS if f"{name}_r" in read_table(subject.files.action_units))
        if not names:
            raise InputError(
                f"{subject.files.action_units} holds none of {', '.join(PLOTTED_UNITS)}: compute it again."
            )
        units = np.stack([subject.au(name) for name in names])
        self.curves = Curves(names, units, _audio_cells(subject), float(subject.fps))
        self.emotion = subject.read_emotion
        self.angles = head_angles(subject.viewmats)
        name, fps = subject.files.root.resolve().name, float(subject.fps)
        title = f"{name}   {subject.width} x {subject.height}, {fps:g} frames/s"
        self.canvas = backdrop(title, self.curves, self.emotion is not None)

    def frame(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        """One finished preview frame."""
        subject, canvas = self.subject, self.canvas.copy()
        image = subject.original(index) if subject.files.original(index).exists() else subject.frame(index).image
        points = self.track.points[index].astype(np.float64)
        mesh = mesh_panel(image, points, self._axes(index), self.track.layout, bool(self.track.detected[index]))
        masks = subject.masks(index)
        tinted = mask_panel(image, masks.labels, masks.teeth)
        for left, panel in ((LEFT, mesh), (LEFT + SIDE + GAP, tinted)):
            canvas[TOP : TOP + SIDE, left : left + SIDE] = panel
        draw_strips(canvas, self.curves, index)
        if self.emotion is not None:
            first = max(index - round(_TRAIL_S * self.curves.fps), 0)
            draw_dot(canvas, self.emotion[first : index + 1].astype(np.float64))
        self._numbers(canvas, index)
        return canvas

    def _axes(self, index: int) -> Float[np.ndarray, "4 2"]:
        """Origin before the face and the ends of x, y, z in pixels."""
        subject = self.subject
        ends = np.array([0.0, 0.0, AXIS]) + AXIS * np.concatenate([np.zeros((1, 3)), np.eye(3)])
        view = subject.viewmats[index : index + 1].astype(np.float64)
        return project(ends, view, subject.focal, (subject.height, subject.width))[0]

    def _numbers(self, canvas: np.ndarray, index: int) -> None:
        x, top, side = PAD
        yaw, pitch, roll = self.angles[index]
        rows = [
            ("time", f"{index / self.curves.fps:.2f} s"),
            ("frame", f"{index} of {self.subject.num_frames}"),
            ("yaw", f"{yaw:+.1f}\u00b0"),
            ("pitch", f"{pitch:+.1f}\u00b0"),
            ("roll", f"{roll:+.1f}\u00b0"),
        ]
        if self.emotion is not None:
            rows += [("valence", f"{self.emotion[index, 0]:+.2f}"), ("arousal", f"{self.emotion[index, 1]:+.2f}")]
        if not self.track.detected[index]:
            rows.append(("face", "not found"))
        for line, (name, value) in enumerate(rows):
            y = top + side + 14 + 25 * line
            write_text(canvas, (x + 8, y), name, 14, SOFT)
            write_text(canvas, (x + 92, y), value, 14, INK)

    def representative_frames(self) -> dict[int, str]:
        """Frames for the page: spread over the clip, and the extremes."""
        count = self.subject.num_frames
        chosen = {int(i): "" for i in np.linspace(0, count - 1, min(4, count)).round()}
        yaw = self.angles[:, 0]
        extremes = {"widest mouth": self.subject.mouth_opening, "turned right": yaw, "turned left": -yaw}
        for what, values in extremes.items():
            chosen[int(np.nan_to_num(values, nan=-np.inf).argmax())] = what
        if "AU45" in self.curves.names:
            chosen[int(self.curves.units[self.curves.names.index("AU45")].argmax())] = "deepest blink"
        return {
            i: f"frame {i}, {i / self.curves.fps:.1f} s" + (f": {what}" if what else "") for i, what in chosen.items()
        }


def head_angles(viewmats: Float[np.ndarray, "N 4 4"]) -> Float[np.ndarray, "N 3"]:
    """Yaw (the face turns to the image's right), pitch (the chin rises) and roll of the head, degrees."""
    return np.degrees(euler_angles(viewmats)) * np.array([1.0, -1.0, 1.0])


def _audio_cells(subject: Subject) -> Float[np.ndarray, "C 2"]:
    """Least and greatest sample of every cell, scaled so that the loudest fills the strip."""
    path = subject.files.audio
    count = subject.num_frames * CELLS
    cells = np.zeros((count, 2), np.float32)
    if not path.exists():
        return cells
    try:
        with soundfile.SoundFile(path) as file:
            edges = np.round(np.arange(count + 1) * file.samplerate / (CELLS * float(subject.fps))).astype(int)
            for cell, length in enumerate(np.diff(edges)):
                samples = file.read(int(length), dtype="float32", always_2d=True)[:, 0]
                if not len(samples):
                    break
                cells[cell] = samples.min(), samples.max()
    except soundfile.LibsndfileError:
        raise InputError(f"{path} is no readable sound file: write 16 kHz, 16 bit.") from None
    return cells / max(float(np.abs(cells).max(initial=0.0)), 1e-6)


def _write_page(drawing: _Drawing, images: dict[str, np.ndarray], path: Path) -> None:
    """Write facts, findings, plots over the whole clip, and some frames."""
    subject, curves = drawing.subject, drawing.curves
    page = Page(f"Preview of {subject.files.root.resolve().name}", "preview.mp4 next to this page shows every frame")
    for finding in validate(subject.files.root):
        page.verdict(str(finding), _TONES[finding.severity])
    page.facts(
        {
            "image": f"{subject.width} x {subject.height}, {curves.fps:g} frames/s",
            "length": f"{subject.num_frames} frames, {subject.num_frames / curves.fps:.1f} s",
            "without a face": f"{int((~drawing.track.detected).sum())} frames",
            **subject.manifest.get("providers", {}),
        }
    )
    page.heading("Frames")
    for caption, image in images.items():
        page.image(image, caption)
    time = np.arange(subject.num_frames) / curves.fps
    page.heading("Head pose")
    page.plot(line_plot(time, dict(zip(("yaw", "pitch", "roll"), drawing.angles.T, strict=True)), "s", "degrees"))
    page.heading("Action units")
    units = Plot(rows=len(curves.names), height=1.0 * len(curves.names), sharex=True)
    for axes, name, row in zip(units.axes, curves.names, curves.units, strict=True):
        axes.plot(time, row)
        axes.set(ylim=(0, 5), ylabel=name)
    units.axes[-1].set(xlabel="s")
    page.plot(units, "OpenFace's unit, 0 to 5")
    if drawing.emotion is not None:
        page.heading("Valence and arousal")
        lines: dict[str, np.ndarray] = dict(zip(("valence", "arousal"), drawing.emotion.T, strict=True))
        page.plot(line_plot(time, lines, "s", height=2.2, ylim=(-1, 1)))
    page.write(path)


@cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font that is part of matplotlib."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


def write_text(
    canvas: UInt8[np.ndarray, "H W 3"],
    at: tuple[int, int],
    text: str,
    size: int = 14,
    colour: tuple[int, int, int] = INK,
    bold: bool = False,
) -> None:
    """Text on the canvas, in place; ``at`` is its left top corner (x, y)."""
    face = font(size, bold)
    width, height = int(face.getlength(text)) + 3, size + size // 2
    x, y = at
    part = canvas[y : y + height, x : x + width]
    image = Image.fromarray(part)
    ImageDraw.Draw(image).text((0, 0), text, font=face, fill=colour)
    part[...] = np.asarray(image)


@dataclass(frozen=True)
class Curves:
    """Content of the strips, for the whole clip."""

    names: tuple[str, ...]
    units: Float[np.ndarray, "A N"]
    """Intensities 0..5 of the named action units."""
    wave: Float[np.ndarray, "C 2"]
    """Least and greatest sample in each cell of sound; :data:`CELLS` of them make a frame."""
    fps: float


def backdrop(title: str, curves: Curves, has_emotion: bool) -> UInt8[np.ndarray, "H W 3"]:
    """Everything that stays the same from frame to frame."""
    canvas = np.full((HEIGHT, WIDTH, 3), GROUND, np.uint8)
    write_text(canvas, (LEFT, 16), title, 20, INK, bold=True)
    x, y, side = PAD
    cv2.rectangle(canvas, (x, y), (x + side, y + side), PANEL, -1)
    centre, radius = (x + side // 2, y + side // 2), side // 2 - 22
    cv2.circle(canvas, centre, radius, LINE, 1, cv2.LINE_AA)
    cv2.circle(canvas, centre, radius // 2, LINE, 1, cv2.LINE_AA)
    cv2.line(canvas, (centre[0] - radius, centre[1]), (centre[0] + radius, centre[1]), LINE, 1)
    cv2.line(canvas, (centre[0], centre[1] - radius), (centre[0], centre[1] + radius), LINE, 1)
    write_text(canvas, (centre[0] + 5, y + 3), "aroused", 11, SOFT)
    write_text(canvas, (x + side - 58, centre[1] + 4), "pleasant", 11, SOFT)
    if not has_emotion:
        write_text(canvas, (x + 12, centre[1] - 24), "no va.csv", 13, SOFT)
    _legend(canvas)
    _strip_frames(canvas, curves)
    return canvas


def _legend(canvas: np.ndarray) -> None:
    y, x = TOP + SIDE + 8, LEFT
    for name, colour in zip(("x right", "y up", "z out of the face"), AXES, strict=True):
        cv2.line(canvas, (x, y + 9), (x + 14, y + 9), colour, 3, cv2.LINE_AA)
        write_text(canvas, (x + 20, y), name, 12, SOFT)
        x += 40 + int(font(12).getlength(name))
    x = LEFT + SIDE + GAP
    for label, colour in [*COLOURS.items(), ("teeth", TEETH)]:
        name = label if isinstance(label, str) else label.name.lower()
        cv2.rectangle(canvas, (x, y + 3), (x + 12, y + 15), colour, -1)
        write_text(canvas, (x + 18, y), name, 12, SOFT)
        x += 34 + int(font(12).getlength(name))


def _rows(curves: Curves) -> list[tuple[int, int]]:
    """Top and height of every curve's row."""
    height = (STRIP_HEIGHT - WAVE_HEIGHT - 6) // max(len(curves.names), 1)
    return [(STRIP_TOP + i * height, height - 3) for i in range(len(curves.names))]


def _strip_frames(canvas: np.ndarray, curves: Curves) -> None:
    for i, (name, (top, height)) in enumerate(zip(curves.names, _rows(curves), strict=True)):
        cv2.rectangle(canvas, (STRIP_LEFT, top), (STRIP_LEFT + STRIP_WIDTH, top + height), PANEL, -1)
        write_text(canvas, (LEFT, top + height // 2 - 8), name, 12, CURVES[i % len(CURVES)], bold=True)
    top = STRIP_TOP + STRIP_HEIGHT - WAVE_HEIGHT
    cv2.rectangle(canvas, (STRIP_LEFT, top), (STRIP_LEFT + STRIP_WIDTH, top + WAVE_HEIGHT), PANEL, -1)
    write_text(canvas, (LEFT, top + WAVE_HEIGHT // 2 - 8), "sound", 12, SOFT)


def draw_strips(canvas: UInt8[np.ndarray, "H W 3"], curves: Curves, index: int) -> None:
    """Action units and sound around frame ``index``, and the cursor in their middle."""
    reach = int(WINDOW_S * curves.fps)
    step = STRIP_WIDTH / (2 * reach)
    middle = STRIP_LEFT + STRIP_WIDTH // 2
    first, last = max(index - reach, 0), min(index + reach + 1, curves.units.shape[1])
    x = middle + (np.arange(first, last) - index) * step
    for i, (row, (top, height)) in enumerate(zip(curves.units, _rows(curves), strict=True)):
        y = top + height - 1 - np.clip(row[first:last], 0, 5) / 5 * (height - 3)
        line = np.round(np.stack([x, y], -1) * 8).astype(np.int32)
        cv2.polylines(canvas, [line], False, CURVES[i % len(CURVES)], 1, cv2.LINE_AA, 3)
    centre, half = STRIP_TOP + STRIP_HEIGHT - WAVE_HEIGHT // 2, WAVE_HEIGHT / 2 - 3
    begin, end = (max(at, 0) * CELLS for at in (index - reach, index + reach))
    wave = curves.wave[begin:end]
    if len(wave):
        at = middle + ((begin + np.arange(len(wave))) / CELLS - index) * step
        low, high = (np.stack([at, centre - wave[:, side] * half], -1) for side in (0, 1))
        edge = np.concatenate([high, low[::-1]])
        cv2.fillPoly(canvas, [np.round(edge * 8).astype(np.int32)], SOFT, cv2.LINE_AA, 3)
    cv2.line(canvas, (middle, STRIP_TOP - 4), (middle, STRIP_TOP + STRIP_HEIGHT), INK, 1)


def draw_dot(canvas: UInt8[np.ndarray, "H W 3"], trail: Float[np.ndarray, "n 2"]) -> None:
    """Valence and arousal on the circumplex: the last second as a trail, the frame's own as a dot."""
    x, y, side = PAD
    radius = side // 2 - 22
    places = np.round((np.array([x, y]) + side // 2 + trail * [radius, -radius]) * 8).astype(np.int32)
    cv2.polylines(canvas, [places], False, (110, 90, 40), 2, cv2.LINE_AA, 3)
    cv2.circle(canvas, (int(places[-1, 0]), int(places[-1, 1])), 7 * 8, CURVES[2], -1, cv2.LINE_AA, 3)


def mesh_panel(
    image: UInt8[np.ndarray, "H W 3"],
    points: Float[np.ndarray, "K 2"],
    axes: Float[np.ndarray, "4 2"],
    layout: FaceLayout,
    detected: bool,
) -> UInt8[np.ndarray, "S S 3"]:
    """The frame with its landmarks and the axes of the head (origin and the ends of x, y, z, pixels)."""
    scale = SIDE / max(image.shape[:2])
    panel = fitted(image)
    offset = (np.array([SIDE, SIDE]) - np.array(image.shape[1::-1]) * scale) / 2
    at = np.nan_to_num(points * scale + offset, nan=-100.0).clip(-1e4, 1e4)
    colour = (140, 230, 255) if detected else (255, 92, 92)
    for x, y in np.round(at * 8).astype(int):
        cv2.circle(panel, (int(x), int(y)), 7, colour, -1, cv2.LINE_AA, 3)
    lids = [(layout.right_upper_lid, layout.right_lower_lid), (layout.left_upper_lid, layout.left_lower_lid)]
    loops = [(*upper, *reversed(lower)) for upper, lower in lids] + [layout.lips_outer, layout.lips_inner]
    for group, closed in [*((loop, True) for loop in loops), (layout.right_brow, False), (layout.left_brow, False)]:
        line = np.round(at[list(group)] * 8).astype(np.int32)
        cv2.polylines(panel, [line], closed, (255, 214, 102), 1, cv2.LINE_AA, 3)
    ends = np.round((axes * scale + offset).clip(-1e4, 1e4)).astype(int)
    for end, tint in zip(ends[1:], AXES, strict=True):
        cv2.arrowedLine(panel, tuple(map(int, ends[0])), tuple(map(int, end)), tint, 2, cv2.LINE_AA, 0, 0.18)
    return panel


def mask_panel(
    image: UInt8[np.ndarray, "H W 3"], labels: UInt8[np.ndarray, "H W"], teeth: Bool[np.ndarray, "H W"]
) -> UInt8[np.ndarray, "S S 3"]:
    """The frame tinted by its classes, with their outlines; the background is dimmed."""
    table = np.array([GROUND, *(COLOURS[Label(i)] for i in range(1, len(Label)))], np.uint8)
    tint = table[labels]
    mixed = cv2.addWeighted(image, 0.6, tint, 0.4, 0)
    dim = labels == Label.BACKGROUND
    mixed[dim] = image[dim] // 3
    edge = np.zeros(labels.shape, bool)
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edge[1:] |= labels[1:] != labels[:-1]
    mixed[edge] = tint[edge]
    mixed[teeth] = TEETH
    return fitted(mixed)


def fitted(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "S S 3"]:
    """An image of any shape in the middle of a square of :data:`SIDE` pixels."""
    scale = SIDE / max(image.shape[:2])
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    out = np.full((SIDE, SIDE, 3), PANEL, np.uint8)
    left, top = (SIDE - size[0]) // 2, (SIDE - size[1]) // 2
    out[top : top + size[1], left : left + size[0]] = small
    return out
