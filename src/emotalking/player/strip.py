"""A strip of consecutive frames, cropped to the mouth, above their phonemes, words and waveform."""

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

from emotalking.emotion.tracks import EmotionTrack
from emotalking.errors import InputError
from emotalking.io.audio import SAMPLE_RATE, load_audio
from emotalking.io.files import Finish
from emotalking.io.images import write_image
from emotalking.models.avatar import Avatar
from emotalking.ops.box import Box
from emotalking.player.protocols import PlayableAvatar
from emotalking.report.contact_sheet import opaque
from emotalking.tts.base import TimedLabel, Utterance

LONGEST_S = 6.0
"""Longest time of a strip, from the beginning of the audio, in seconds."""
COLUMNS = 16
CELL = 84
"""Side of a frame's crop in pixels; frames are placed side by side, so that a row is a time axis."""
_PHONEME_BAND = 22
_WORD_BAND = 20
_WAVE_BAND = 34
_EMOTION_BAND = 44
_GAP = 12
_EDGE = 8
_BACKGROUND = (255, 255, 255)
_TEXT = (29, 35, 48)
_AXIS = (140, 147, 160)
_WAVE = (76, 114, 176)
_CURVES = {"valence": (47, 111, 222), "arousal": (224, 103, 47)}
_SHADES = ((238, 241, 247), (222, 228, 239))
_MOUTH_WIDTHS = 2.4
"""Side of the crop, in widths of the mouth's Gaussians."""


class Strip:
    """Collect the frames of a rendering while it runs, and draw them.

    Args:
        path: .png or .jpg file to write.
        avatar: the rendered avatar; for a type other than ``Avatar`` the full frame is drawn.
        finish: last step of the file (:func:`emotalking.io.files.replacing`).

    Raises:
        InputError: ``path`` has another suffix.
    """

    def __init__(self, path: str | Path, avatar: PlayableAvatar, finish: Finish | None = None) -> None:
        self.path = Path(path)
        self._finish = finish
        if self.path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
            raise InputError(f"a strip cannot be written to {path}: let it end in .png or .jpg.")
        self._fps = float(avatar.fps)
        self._box = mouth_box(avatar)
        self._cuts: list[np.ndarray] = []

    def watch(
        self, frames: Iterator[UInt8[np.ndarray, "H W channels"]], matte: bool = False
    ) -> Iterator[UInt8[np.ndarray, "H W channels"]]:
        """Yield the same frames, and keep their crops for the strip.

        Args:
            matte: the fourth channel is the head's coverage of a finished frame, not transparency.
        """
        box = self._box
        for image in frames:
            if len(self._cuts) < LONGEST_S * self._fps:
                rgb = Image.fromarray(image[..., :3]) if matte else opaque(image)
                cut = rgb.resize((CELL, CELL), Image.Resampling.LANCZOS, box=(box.left, box.top, box.right, box.bottom))
                self._cuts.append(np.asarray(cut))
            yield image

    def save(
        self,
        samples: Float[np.ndarray, " n"],
        words: Sequence[TimedLabel] | None = None,
        phonemes: Sequence[TimedLabel] | None = None,
        emotion: EmotionTrack | None = None,
    ) -> None:
        """Draw and write the strip.

        Args:
            samples: 16 kHz mono, at least as long as the strip.
            words, phonemes: with times; None: unknown, without their bands.
            emotion: that was rendered; a constant one is not drawn.
        """
        strip = draw_strip(self._cuts, self._fps, samples, words, phonemes, emotion)
        write_image(self.path, strip, finish=self._finish)


def mouth_box(avatar: PlayableAvatar) -> Box:
    """Square around the mouth in the avatar's frames, from the recorded poses.

    Without a mouth branch, the largest square at the centre of the frame.
    """
    width, height = avatar.width, avatar.height
    side = float(min(width, height))
    x, y = width / 2, height / 2
    if isinstance(avatar, Avatar):
        points = avatar.head.mouth.gaussians.means.detach().cpu().numpy().astype(np.float64)
        in_camera = np.einsum("pij,nj->pni", avatar.viewmats[:, :3, :3], points) + avatar.viewmats[:, None, :3, 3]
        pixels = in_camera[..., :2] / in_camera[..., 2:] * avatar.scene.focal + np.array([width, height]) / 2
        low, high = np.quantile(pixels, [0.05, 0.95], axis=1)
        side = min(side, _MOUTH_WIDTHS * float(np.median((high - low)[:, 0])))
        x, y = np.median((low + high) / 2, axis=0)
    x = float(np.clip(x, side / 2, width - side / 2))
    y = float(np.clip(y, side / 2, height - side / 2))
    return Box(y - side / 2, x - side / 2, y + side / 2, x + side / 2)


def draw_strip(
    cuts: Sequence[UInt8[np.ndarray, "S S 3"]],
    fps: float,
    samples: Float[np.ndarray, " n"],
    words: Sequence[TimedLabel] | None = None,
    phonemes: Sequence[TimedLabel] | None = None,
    emotion: EmotionTrack | None = None,
    columns: int = COLUMNS,
) -> UInt8[np.ndarray, "H W 3"]:
    """Draw rows of ``columns`` crops above phonemes, words, waveform and emotion on the same time axis.

    Frame f lasts from f / fps to (f + 1) / fps; a phoneme that ends in the next row is drawn in both.
    """
    if not cuts:
        raise ValueError("cuts: expected at least one, got none")
    bands = [(timed, height) for timed, height in ((phonemes, _PHONEME_BAND), (words, _WORD_BAND)) if timed is not None]
    curves = emotion if emotion is not None and len(emotion.times) > 1 else None
    cell = cuts[0].shape[1]
    pitch = cell + sum(height for _, height in bands) + _WAVE_BAND + (curves is not None) * _EMOTION_BAND + _GAP
    columns = min(columns, len(cuts))
    rows = -(-len(cuts) // columns)
    page = Image.new("RGB", (columns * cell + 2 * _EDGE, rows * pitch + 2 * _EDGE), _BACKGROUND)
    draw = ImageDraw.Draw(page)
    scale = max(float(np.abs(samples).max(initial=0.0)), 1e-3)
    for row in range(rows):
        top = _EDGE + row * pitch
        here = cuts[row * columns : (row + 1) * columns]
        for column, cut in enumerate(here):
            page.paste(Image.fromarray(cut), (_EDGE + column * cell, top))
        begin, end = row * columns / fps, (row * columns + len(here)) / fps
        draw.text((_EDGE + 3, top + 2), f"{begin:.2f} s", _BACKGROUND, _font(11), stroke_width=1, stroke_fill=_TEXT)
        top += cell
        for timed, height in bands:
            _band(draw, timed, begin, end, fps * cell, top, height)
            top += height
        _wave(draw, samples, begin, end, fps * cell, top, scale)
        if curves is not None:
            _emotion(draw, curves, begin, end, fps * cell, top + _WAVE_BAND, named=row == 0)
    return np.asarray(page).copy()


def _band(
    draw: ImageDraw.ImageDraw,
    timed: Sequence[TimedLabel],
    begin: float,
    end: float,
    pixels_per_s: float,
    top: int,
    height: int,
) -> None:
    """Draw labels between their start and end."""
    for index, each in enumerate(timed):
        start, stop = max(each.start_s, begin), min(each.end_s, end)
        if stop <= start:
            continue
        left, right = (_EDGE + (time - begin) * pixels_per_s for time in (start, stop))
        draw.rectangle((left, top + 1, max(left, right - 1), top + height - 2), _SHADES[index % 2])
        label = _writable(each.label)
        size = next((s for s in (14, 12, 10, 8) if _font(s).getlength(label) <= right - left), 8)
        draw.text(((left + right) / 2, top + height / 2), label, _TEXT, _font(size), anchor="mm")


def _wave(
    draw: ImageDraw.ImageDraw,
    samples: np.ndarray,
    begin: float,
    end: float,
    pixels_per_s: float,
    top: int,
    scale: float,
) -> None:
    """Draw the lowest and highest sample of every pixel column."""
    middle, reach = top + _WAVE_BAND / 2, _WAVE_BAND / 2 - 2
    width = round((end - begin) * pixels_per_s)
    edges = ((begin + np.arange(width + 1) / pixels_per_s) * SAMPLE_RATE).astype(int)
    draw.line((_EDGE, middle, _EDGE + width, middle), _AXIS)
    for column, (first, last) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        piece = samples[first:last]
        if len(piece):
            low, high = middle - piece.max() / scale * reach, middle - piece.min() / scale * reach
            draw.line((_EDGE + column, low, _EDGE + column, high), _WAVE)


def _emotion(
    draw: ImageDraw.ImageDraw,
    emotion: EmotionTrack,
    begin: float,
    end: float,
    pixels_per_s: float,
    top: int,
    named: bool,
) -> None:
    """Draw valence and arousal, 1 at the top of the band and -1 at its end."""
    middle, reach = top + _EMOTION_BAND / 2, _EMOTION_BAND / 2 - 4
    columns = np.arange(0, (end - begin) * pixels_per_s, 4)
    values = emotion.at(begin + columns / pixels_per_s)
    draw.line((_EDGE, middle, _EDGE + columns[-1], middle), _AXIS)
    for number, (name, colour) in enumerate(_CURVES.items()):
        points = zip(_EDGE + columns, middle - values[:, number] * reach, strict=True)
        draw.line([(float(x), float(y)) for x, y in points], colour, 2)
        if named:
            draw.text((_EDGE + 3, top + 28 * number), name, colour, _font(11))


_FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
"""Font with the full phonetic alphabet, part of matplotlib."""


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(_FONT), size)


@cache
def _charset() -> frozenset[int]:
    """Code points of the font."""
    return frozenset(FT2Font(str(_FONT)).get_charmap())


def _writable(label: str) -> str:
    """Replace characters that the font lacks (Chinese) by dots."""
    return "".join(sign if ord(sign) in _charset() else "·" for sign in label)


def save_strip(
    strip: Strip,
    audio: str | Path | Float[np.ndarray, " S"] | Utterance,
    audio_track: int | None,
    emotion: EmotionTrack | None,
) -> None:
    """Save the strip with the waveform, with words and phonemes where their times are known, and with emotion."""
    if isinstance(audio, Utterance):
        strip.save(audio.samples, audio.words, audio.phonemes, emotion)
    else:
        samples = audio if isinstance(audio, np.ndarray) else load_audio(audio, longest_s=LONGEST_S, track=audio_track)
        strip.save(samples, emotion=emotion)
