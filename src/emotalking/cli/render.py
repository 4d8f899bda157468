"""``emotalking render``: an avatar file and speech to a video."""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from emotalking.cli.options import add_device
from emotalking.cli.say import add_speaker

if TYPE_CHECKING:
    from emotalking.tts.base import Utterance

IF_INTERRUPTED = "no video was written; frames already in the folder of --frames are whole"

_EXAMPLES = """examples:
  emotalking render someone.safetensors --audio speech.mp3 -o out.mp4 --emotion happy
  emotalking render someone.safetensors --audio speech.wav -o out.mp4 --va -0.5,0.3
  emotalking render someone.safetensors --audio speech.wav -o out.webm --transparent
  emotalking render someone.safetensors --text "Good morning!" --voice f2 -o out.mp4 --strip strip.png
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.epilog = _EXAMPLES
    parser.add_argument("avatar", type=Path, help="avatar file ('emotalking train')")
    speech = parser.add_mutually_exclusive_group(required=True)
    speech.add_argument("--audio", type=Path, help="speech: any sound or video file, of any length")
    speech.add_argument("--text", help="speech made from this text, see the options of speech from text")
    parser.add_argument(
        "-o", "--output", type=Path, help="video to write: .mp4, .mov, .mkv or .webm; transparent: .mov or .webm"
    )
    parser.add_argument("--frames", type=Path, metavar="DIR", help="write every frame as a PNG file into this folder")
    parser.add_argument(
        "--strip",
        type=Path,
        metavar="PNG",
        help="picture of the first 6 s: every frame's mouth above the sound, with words and phonemes of --text",
    )
    add_speaker(parser.add_argument_group("speech from text"))
    emotion = parser.add_argument_group("emotion (at most one; without any, the face as it was recorded)")
    emotion.add_argument("--emotion", metavar="NAME", help="happy, sad, angry, ..., or with a strength: happy:0.5")
    emotion.add_argument("--va", metavar="V,A", help="valence and arousal, each from -1 to 1, such as -0.5,0.3")
    emotion.add_argument("--track", type=Path, metavar="FILE", help="keyframes (.csv or .json: time, valence, arousal)")
    picture = parser.add_argument_group("picture")
    picture.add_argument(
        "--background", metavar="WHAT", help="a picture file, a colour (white, #00ff00) or transparent"
    )
    picture.add_argument("--transparent", action="store_true", help="the same as --background transparent")
    picture.add_argument(
        "--paste", type=Path, metavar="CLIP", help="paste the head back into the full frames of the clip it came from"
    )
    picture.add_argument(
        "--poses", choices=("recorded", "fixed"), default="recorded", help="head motion (default: %(default)s)"
    )
    picture.add_argument("--seconds", type=float, help="render only the first seconds")
    add_device(parser)
    parser.add_argument("--batch", type=int, default=8, help="frames rendered together (default: %(default)s)")
    parser.add_argument(
        "--features", type=Path, metavar="NPY", help="audio features of the speech, for an avatar not trained on 'mel'"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="the folder of --frames may hold frames of an earlier run"
    )
    parser.add_argument(
        "--no-silence-gate",
        action="store_true",
        help="let the lips follow every sound, instead of closing where nobody speaks",
    )


def run(args: argparse.Namespace) -> None:
    """Render the video."""
    from emotalking import api
    from emotalking.cli.options import note, say_device
    from emotalking.errors import UserError
    from emotalking.progress import bar

    if args.transparent and args.background not in (None, "transparent"):
        raise UserError("--transparent and --background exclude each other: give one of them")
    device = api.choose_device(args.device)
    speech = _speech(args)
    emotion = api.emotion_track(name=args.emotion, va=args.va, track=args.track)
    avatar = api.load_avatar(args.avatar, device)
    say_device("rendering", device)
    if not (args.no_silence_gate or avatar.closes_lips):
        note("this avatar has not learned its closed lips: in silence they rest as they may (train it again to close)")
    begin = time.perf_counter()
    with bar() as progress:
        task = progress.add_task("listen", total=None, note="")
        made = api.render(
            avatar,
            speech,
            args.output,
            strip=args.strip,
            folder=args.frames,
            features=args.features,
            emotion=emotion,
            poses=args.poses,
            background="transparent" if args.transparent else args.background,
            paste=args.paste,
            seconds=args.seconds,
            batch=args.batch,
            overwrite=args.overwrite,
            vad=not args.no_silence_gate,
            progress=lambda done, total: progress.update(task, description="render", completed=done, total=total),
        )
    rate = made.frames / (time.perf_counter() - begin)
    where = " and ".join(str(place) for place in (made.video, made.folder, made.strip) if place is not None)
    note(f"{where}: {made.frames} frames, {made.seconds:.2f} s ({rate:.1f} frames/s)")


def _speech(args: argparse.Namespace) -> "Path | Utterance":
    """The sound file, or what is to be said."""
    from emotalking import api
    from emotalking.cli.say import rate_of
    from emotalking.errors import UserError

    if args.text is not None:
        return api.say(
            args.text, language=args.language, voice=args.voice, rate=rate_of(args.rate), speaker=args.speaker
        )
    if (args.language, args.voice, args.rate, args.speaker) != ("en", None, "1", "espeak"):
        raise UserError("--language, --voice, --rate and --speaker are for --text: leave them away with --audio.")
    return args.audio
