"""Preview of a subject folder: a video with landmarks, axes, masks, action units, emotion and sound, and a page.

Works on every subject folder, prepared or imported. Frames are drawn one by one on all cores; memory does not grow with
the clip's length.
"""

from pathlib import Path

import numpy as np
import soundfile
from jaxtyping import Float, UInt8

from emotalking.data import Subject, validate
from emotalking.data.readers import read_table
from emotalking.errors import InputError
from emotalking.io.audio import iter_audio
from emotalking.io.video_writer import AUDIO_RATE, VideoWriter
from emotalking.preprocess import preview_panels as panels
from emotalking.preprocess.pose.rigid import euler_angles
from emotalking.preprocess.pose.solver import project
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


def make_preview(subject: Subject) -> tuple[Path, Path]:
    """Write ``preview.mp4`` and ``preview.html`` into the subject's folder.

    Returns:
        Their paths.

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
    with VideoWriter(video, panels.WIDTH, panels.HEIGHT, subject.fps, sound) as writer:
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
        self.curves = panels.Curves(
            names,
            np.stack([subject.au(name) for name in names]),
            _audio_cells(subject),
            CELLS,
            float(subject.fps),
        )
        self.emotion = subject.valence_arousal
        self.angles = head_angles(subject.viewmats)
        title = (
            f"{subject.files.root.resolve().name}   {subject.width} x {subject.height}, {float(subject.fps):g} frames/s"
        )
        self.canvas = panels.backdrop(title, self.curves, self.emotion is not None)

    def frame(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        """One finished preview frame."""
        subject, canvas = self.subject, self.canvas.copy()
        image = subject.original(index) if subject.files.original(index).exists() else subject.frame(index).image
        points = self.track.points[index].astype(np.float64)
        mesh = panels.mesh_panel(image, points, self._axes(index), self.track.layout, bool(self.track.detected[index]))
        masks = subject.masks(index)
        tinted = panels.mask_panel(image, masks.labels, masks.teeth)
        top, side = panels.TOP, panels.SIDE
        for left, panel in ((panels.LEFT, mesh), (panels.LEFT + side + panels.GAP, tinted)):
            canvas[top : top + side, left : left + side] = panel
        panels.draw_strips(canvas, self.curves, index)
        if self.emotion is not None:
            first = max(index - round(_TRAIL_S * self.curves.fps), 0)
            panels.draw_dot(canvas, self.emotion[first : index + 1].astype(np.float64))
        self._numbers(canvas, index)
        return canvas

    def _axes(self, index: int) -> Float[np.ndarray, "4 2"]:
        """Origin before the face and the ends of x, y, z in pixels."""
        subject = self.subject
        ends = np.array([0.0, 0.0, AXIS]) + AXIS * np.concatenate([np.zeros((1, 3)), np.eye(3)])
        view = subject.viewmats[index : index + 1].astype(np.float64)
        return project(ends, view, subject.focal, (subject.height, subject.width))[0]

    def _numbers(self, canvas: np.ndarray, index: int) -> None:
        x, top, side = panels.PAD
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
            panels.write_text(canvas, (x + 8, y), name, 14, panels.SOFT)
            panels.write_text(canvas, (x + 92, y), value, 14, panels.INK)

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
    seconds = subject.num_frames / curves.fps
    page = Page(f"Preview of {subject.files.root.resolve().name}", "preview.mp4 next to this page shows every frame")
    for finding in validate(subject.files.root):
        page.verdict(str(finding), _TONES[finding.severity])
    page.facts(
        {
            "image": f"{subject.width} x {subject.height}, {curves.fps:g} frames/s",
            "length": f"{subject.num_frames} frames, {seconds:.1f} s",
            "without a face": f"{int((~drawing.track.detected).sum())} frames",
            **{name: provider for name, provider in subject.manifest.get("providers", {}).items()},
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
        valence, arousal = drawing.emotion.T
        lines: dict[str, np.ndarray] = {"valence": valence, "arousal": arousal}
        page.plot(line_plot(time, lines, "s", height=2.2, ylim=(-1, 1)))
    page.write(path)
