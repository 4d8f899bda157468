"""Page of a footage check: verdict, images, measures and plots in one file."""

import base64
from pathlib import Path

import numpy as np

from emotalking.errors import InputError
from emotalking.io.images import decode_image
from emotalking.lipsync.offset import TRUSTED
from emotalking.preprocess.check.verdict import LATE_S, Footage, Verdict
from emotalking.report import Page, Plot
from emotalking.report.page import Tone

_TONES: dict[Verdict, Tone] = {"good": "good", "usable": "warn", "unusable": "bad"}


def write_page(footage: Footage, path: str | Path) -> None:
    """Write the self-contained HTML page of a check.

    Raises:
        InputError: the page cannot be written there.
    """
    page = Page(f"Footage check: {Path(footage.clip).name}", verdict_line(footage))
    for reason in footage.reasons:
        page.verdict(f"Cannot be used: {reason}.", "bad")
    for warning in footage.warnings:
        page.verdict(f"{warning[0].upper()}{warning[1:]}.", "warn")
    for clip in footage.expressions:
        page.verdict(" ".join(line.strip() for line in _of_expressions(clip)), _TONES[clip.verdict])
    if footage.verdict == "good":
        page.verdict("No problems found.", "good")
    if footage.stills:
        images = [np.asarray(decode_image(base64.b64decode(still.jpeg))) for still in footage.stills]
        page.images(images, [still.caption for still in footage.stills])
    page.heading("Measures")
    page.table(("", "", ""), _measures(footage))
    page.heading("Over the clip")
    page.plot(
        _overview(footage), "Shaded: the part that is used. Red: cuts; orange: jump cuts. Blue bar: densely tracked."
    )
    if footage.curves.get("opening"):
        page.heading("Mouth and lids")
        page.plot(_close(footage), "Every frame of the seconds with the most speech.")
    if footage.curves["offset_evidence"] and any(footage.curves["offset_evidence"]):
        page.heading("Sound against image")
        page.plot(_offset(footage), "Evidence for each shift; 0: mouth and sound are unrelated.")
    try:
        page.write(path)
    except OSError as error:
        raise InputError(f"the page {path} cannot be written ({error.strerror}): choose another place.") from error


def default_page(clip: str | Path) -> Path:
    """Default place of the page: ``CLIP.check.html`` in the folder of the clip."""
    return Path(clip).with_name(f"{Path(clip).stem}.check.html")


def summary_lines(footage: Footage) -> list[str]:
    """The verdict, the warnings and the audio offset, a line each."""
    more = [line for clip in footage.expressions for line in _of_expressions(clip)]
    if footage.verdict == "unusable":
        return [verdict_line(footage), *more]
    warnings = [f"  - {warning}" for warning in footage.warnings]
    return [verdict_line(footage), *warnings, f"  sound against mouth: {offset_words(footage)}", *more]


def _of_expressions(clip: Footage) -> list[str]:
    """Verdict and warnings of a clip of expressions, a line each."""
    return [verdict_line(clip), *(f"  - {warning}" for warning in clip.warnings if clip.verdict != "unusable")]


def verdict_line(footage: Footage) -> str:
    """The verdict as one line of text."""
    name = Path(footage.clip).name
    used = f"{footage.part[1] - footage.part[0]:.1f} s of {footage.seconds:.1f} s can be used"
    if footage.verdict == "unusable":
        return f"{name} is unusable: {'; '.join(footage.reasons)}."
    if footage.verdict == "usable":
        count = len(footage.warnings)
        return f"{name} is usable, with {count} warning{'s' if count > 1 else ''}: {used}."
    return f"{name} is good: {used}."


def offset_words(footage: Footage) -> str:
    """The audio offset and what may be made of it."""
    late, confidence = 1000 * footage.sound_late_s, footage.sound_late_confidence
    if footage.sound_s == 0:
        return "no sound"
    if confidence < TRUSTED:
        return f"not sure (best guess {late:+.0f} ms, confidence {confidence:.2f})"
    word = "in step" if abs(late) <= 1000 * LATE_S else "late" if late > 0 else "early"
    return f"{word} ({late:+.0f} ms, confidence {confidence:.2f})"


def _measures(f: Footage) -> list[tuple[str, str, str]]:
    """Name, value, and what to compare it with."""
    percent = "{:.0%}".format
    steady = "" if f.steady else ", uneven"
    return [
        ("image", f"{f.width} x {f.height}, {f.seconds:.1f} s", "512 x 512 and a minute is what the field uses"),
        ("frame rate", f"{f.true_fps} true, {f.stored_fps} stored{steady}", "25 frames/s; fewer than 15 are too few"),
        ("repeated frames", percent(f.duplicate_share), "dropped by prepare"),
        ("damaged frames", str(f.damaged_frames), "0"),
        ("face", f"{f.face_px:.0f} px high, in {f.face_share:.0%} of {f.faces_looked_at} frames", "250 px or more"),
        ("second face", percent(f.other_face_share), "0 %"),
        ("hand before the face", percent(f.hand_share), "0 %"),
        ("face leaves the image", percent(f.cropped_share), "0 %"),
        ("yaw", f"{f.yaw[0]:+.0f} to {f.yaw[1]:+.0f} degrees", "what is not shown cannot be rendered"),
        ("pitch", f"{f.pitch[0]:+.0f} to {f.pitch[1]:+.0f} degrees", ""),
        ("frontal face", percent(f.frontal_share), "70 % or more"),
        ("detail", f"{f.detail:.2f}", "0.17 to 0.6; soft under 0.14, blurred under 0.08"),
        ("blocks", f"{f.blockiness:.2f}", "1; visible from 1.5 on"),
        ("bits per pixel", f"{f.bits_per_pixel:.3f}", "with the sound"),
        ("brightness changes", percent(f.exposure_range), "20 % at most"),
        ("mouth opens", f"{f.mouth_range:.3f} of the head", "talkers 0.05 to 0.15"),
        ("lips closed", percent(f.closed_share), "some, or silence cannot be learned"),
        ("blinks a minute", f"{f.blinks_per_minute:.0f}", "people: 5 to 30"),
        ("sound", f"{f.sound_s:.1f} s, speech in {f.speech_share:.0%} ({f.speech_s:.0f} s)", "the more the better"),
        ("speech above noise", f"{f.noise_db:.0f} dB", "15 dB or more"),
        ("clipped samples", f"{f.clipped_share:.2%}", "0 %"),
        ("sound against mouth", offset_words(f), f"trusted from {TRUSTED} on"),
    ]


def _overview(f: Footage) -> Plot:
    """Brightness, head turn and loudness over the clip."""
    curves = f.curves
    plot = Plot(rows=3, height=4.8, sharex=True)
    light, turn, loud = plot.axes
    light.plot(curves["frame_s"], curves["brightness"], color="#5d6678", label="brightness")
    light.plot(curves["frame_s"], curves["change"], color="#c9a227", lw=0.8, label="change")
    light.set_ylabel("grey levels")
    if "yaw" in curves:
        turn.plot(curves["looks_s"], curves["yaw"], ".-", ms=3, color="#2f6fb3", label="yaw")
        turn.plot(curves["looks_s"], curves["pitch"], ".-", ms=3, color="#8a5ab5", label="pitch")
        turn.legend(ncols=2, loc="upper right")
    turn.set_ylabel("degrees")
    if "level_db" in curves:
        loud.plot(curves["sound_s"], curves["level_db"], color="#9aa3b2", lw=0.7)
        talk = np.array(curves["speech"], bool)
        loud.fill_between(curves["sound_s"], -100, 0, where=talk, color="#1d7f4e", alpha=0.15, lw=0, label="speech")
        loud.legend(loc="upper right")
        loud.set_ylim(-100, 0)
    loud.set(xlabel="s", ylabel="dB")
    light.legend(ncols=2, loc="upper right")
    for axis in plot.axes:
        axis.axvspan(*f.part, color="#1d7f4e", alpha=0.06, lw=0)
        for times, colour in ((f.cuts, "#b3261e"), (f.jumps, "#e08a00")):
            for time in times:
                axis.axvline(time, color=colour, lw=1)
    light.plot(f.close_look, [2, 2], color="#2f6fb3", lw=4, solid_capstyle="butt")
    return plot


def _close(f: Footage) -> Plot:
    plot = Plot(rows=2, height=3.2, sharex=True)
    for axis, name, label in zip(plot.axes, ("opening", "lids"), ("mouth / head", "lids, height / width"), strict=True):
        axis.plot(f.curves["close_s"], f.curves[name], color="#2f6fb3", lw=1)
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
    plot.axes[1].set_xlabel("s")
    return plot


def _offset(f: Footage) -> Plot:
    plot = Plot(height=2.4)
    axis = plot.axes[0]
    axis.plot([1000 * s for s in f.curves["offset_s"]], f.curves["offset_evidence"], color="#2f6fb3")
    axis.axvline(1000 * f.sound_late_s, color="#e08a00", lw=1)
    axis.axhline(0, color="#9aa3b2", lw=0.8)
    axis.set(xlabel="sound late by (ms)", ylabel="log evidence")
    axis.set_title(offset_words(f), loc="left", fontsize=9)
    return plot
