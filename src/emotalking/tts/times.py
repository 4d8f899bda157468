"""Files with the times of words and phonemes: JSON, which is read back, and Praat's TextGrid."""

import json
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from emotalking.errors import UserError
from emotalking.io.audio import SAMPLE_RATE
from emotalking.io.files import write_bytes
from emotalking.tts.base import TimedLabel, Utterance

ENDINGS = (".json", ".textgrid")


def write_times(path: str | Path, utterance: Utterance) -> None:
    """Write the times of an utterance; the ending chooses between JSON and TextGrid.

    Raises:
        UserError: another ending, or the times are not known.
    """
    path = Path(path)
    check_ending(path)
    if utterance.words is None or utterance.phonemes is None:
        raise UserError(f"the times of {utterance.text[:40]!r} are not known, so that {path} was not written.")
    text = _json(utterance) if path.suffix.lower() == ".json" else _text_grid(utterance)
    write_bytes(path, text.encode("utf-8", "replace"))  # a terminal may hand on halves of characters


def check_ending(path: Path) -> None:
    """Refuse a file that :func:`write_times` cannot write.

    Raises:
        UserError: its ending is another.
    """
    if path.suffix.lower() not in ENDINGS:
        raise UserError(f"times cannot be written to {path}: use the suffix .json or .TextGrid.")


def read_times(path: Path, samples: Float32[np.ndarray, " n"]) -> Utterance:
    """The utterance whose times are in a JSON file of :func:`write_times`, with its sound.

    Raises:
        UserError: the file is not such a file, or its times do not fit the sound.
    """
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        words, phonemes = (
            tuple(TimedLabel(str(each["label"]), float(each["start_s"]), float(each["end_s"])) for each in facts[kind])
            for kind in ("words", "phonemes")
        )
        made = Utterance(
            str(facts["text"]),
            str(facts["language"]),
            str(facts["voice"]),
            samples,
            words,
            phonemes,
            float(facts["rate"]),
        )
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{path} does not hold the times of a recording: remove it.") from error
    for timed in (words, phonemes):
        edges = [edge for each in timed for edge in (each.start_s, each.end_s)]
        if edges != sorted(edges) or (edges and not 0 <= edges[0] <= edges[-1] <= made.seconds + 1 / SAMPLE_RATE):
            raise UserError(
                f"the times in {path} are out of order or beyond the sound of {made.seconds:.2f} s: remove it."
            )
    return made


def _json(utterance: Utterance) -> str:
    facts = {name: getattr(utterance, name) for name in ("text", "language", "voice", "rate", "seconds")}
    facts |= {
        kind: [
            {"label": each.label, "start_s": round(each.start_s, 5), "end_s": round(each.end_s, 5)}
            for each in getattr(utterance, kind)
        ]
        for kind in ("words", "phonemes")
    }
    return json.dumps(facts, indent=1, ensure_ascii=False) + "\n"


def _text_grid(utterance: Utterance) -> str:
    """Praat's long text form: two interval tiers without gaps, silence as empty labels."""
    tiers = {"words": utterance.words or (), "phonemes": utterance.phonemes or ()}
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]
    lines += ["xmin = 0", f"xmax = {utterance.seconds:.6f}", "tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, timed) in enumerate(tiers.items(), 1):
        intervals = without_gaps(timed, utterance.seconds)
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f'        name = "{name}"']
        lines += ["        xmin = 0", f"        xmax = {utterance.seconds:.6f}"]
        lines += [f"        intervals: size = {len(intervals)}"]
        for index, each in enumerate(intervals, 1):
            label = each.label.replace('"', '""')
            lines += [f"        intervals [{index}]:", f"            xmin = {each.start_s:.6f}"]
            lines += [f"            xmax = {each.end_s:.6f}", f'            text = "{label}"']
    return "\n".join(lines) + "\n"


def without_gaps(timed: tuple[TimedLabel, ...], seconds: float) -> list[TimedLabel]:
    """``timed`` with the silences between, before and behind as intervals with an empty label."""
    whole: list[TimedLabel] = []
    reached = 0.0
    for each in timed:
        if each.start_s > reached:
            whole.append(TimedLabel("", reached, each.start_s))
        if each.end_s > each.start_s:
            whole.append(each)
        reached = max(reached, each.end_s)
    if seconds > reached or not whole:
        whole.append(TimedLabel("", reached, seconds))
    return whole
