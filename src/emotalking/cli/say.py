"""``emotalking say``: text to speech with the times of its words and sounds."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emotalking.tts.base import Synthesizer, Utterance

_EXAMPLES = """examples:
  emotalking say "Good morning!" -o morning.wav --times morning.TextGrid
  emotalking say "Guten Morgen!" --language de --voice f2 --rate 0.9 -o morgen.wav
  emotalking say --curated de -o sentences
  emotalking say --coverage --language de --page coverage.html
  emotalking say --voices --language fr
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.epilog = _EXAMPLES
    parser.add_argument("text", nargs="?", help="what to say")
    parser.add_argument("-o", "--output", type=Path, help=".wav file to write; a folder with --curated")
    parser.add_argument(
        "--times", type=Path, metavar="FILE", help="write the times of words and sounds: .json or .TextGrid (Praat)"
    )
    add_speaker(parser, "several, with commas, with --curated")
    other = parser.add_argument_group("instead of a text")
    other.add_argument(
        "--curated", metavar="LANGUAGE", help="say the ten sentences of a language (en, de, fr, es, zh) in many voices"
    )
    other.add_argument("--takes", type=int, default=1, help="with --curated: how often, in other voices each time")
    other.add_argument("--coverage", action="store_true", help="which sounds of --language its ten sentences hold")
    other.add_argument("--page", type=Path, metavar="HTML", help="with --coverage: a page with bars to look at")
    other.add_argument("--voices", action="store_true", help="list the voices and languages of the speaker")


def add_speaker(parser: "argparse.ArgumentParser | argparse._ArgumentGroup", many: str = "") -> None:
    """Options that say who speaks and how."""
    extra = f"; {many}" if many else ""
    parser.add_argument("--language", default="en", metavar="TAG", help="en, en-gb, de, fr, es, zh, ... (default: en)")
    parser.add_argument("--voice", metavar="NAME", help=f"one of 'emotalking say --voices'{extra}")
    parser.add_argument("--rate", default="1", metavar="R", help=f"0.5 (slow) to 2.5 (fast), 1 is normal{extra}")
    parser.add_argument(
        "--speaker", default="espeak", metavar="WHO", help="espeak, gtts (needs a network), or a folder of sound files"
    )


def run(args: argparse.Namespace) -> None:
    """Say it, or tell about voices and sets."""
    from emotalking.errors import UserError
    from emotalking.tts.backends import open_synthesizer

    chosen = [args.text is not None, args.curated is not None, args.coverage, args.voices]
    if sum(chosen) != 1:
        raise UserError("say one thing: a text, --curated, --coverage or --voices (see 'emotalking say --help').")
    if args.times is not None and args.text is None:
        raise UserError("--times goes with a text; --curated writes the times of every sentence anyway.")
    if args.page is not None and not args.coverage:
        raise UserError("--page shows the coverage: give --coverage as well.")
    if args.takes != 1 and args.curated is None:
        raise UserError("--takes repeats the curated set: give --curated as well.")
    speaker = open_synthesizer(args.speaker)
    if args.voices:
        _list(speaker, args.language)
    elif args.coverage:
        _cover(speaker, args)
    elif args.curated is not None:
        _say_set(speaker, args)
    else:
        _say(args)


def rate_of(text: str) -> float:
    """A rate from the command line.

    Raises:
        UserError: it is no number.
    """
    from emotalking.errors import UserError

    try:
        return float(text)
    except ValueError as error:
        raise UserError(f"the rate '{text}' is not a number: give one from 0.5 to 2.5.") from error


def _say(args: argparse.Namespace) -> None:
    from emotalking import api
    from emotalking.cli.options import note
    from emotalking.errors import UserError

    if args.output is None:
        raise UserError("nothing to write: give a sound file with -o, such as -o speech.wav.")
    said = api.say(
        args.text,
        args.output,
        times=args.times,
        language=args.language,
        voice=args.voice,
        rate=rate_of(args.rate),
        speaker=args.speaker,
    )
    where = " and ".join(str(path) for path in (args.output, args.times) if path is not None)
    note(f"{where}: {_described(said)}")


def _say_set(speaker: "Synthesizer", args: argparse.Namespace) -> None:
    from emotalking.cli.options import note
    from emotalking.errors import UserError
    from emotalking.progress import track
    from emotalking.tts.recordings import write_recording
    from emotalking.tts.sentences import RATES, curated, curated_speech

    if args.output is None or args.output.is_file():
        raise UserError("the curated set is ten files and more: give a folder with -o, such as -o sentences.")
    if args.takes < 1:
        raise UserError(f"the set is to be said {args.takes} times: give at least 1.")
    voices = args.voice.split(",") if args.voice else None
    rates = tuple(rate_of(rate) for rate in args.rate.split(",")) if args.rate != "1" else RATES
    count, seconds = len(curated(args.curated)) * args.takes, 0.0
    made = curated_speech(speaker, args.curated, voices, rates, args.takes)
    for number, said in enumerate(track(made, "say", count), 1):
        name = f"{number:02d}_{said.voice}_{round(100 * said.rate)}.wav"
        write_recording(args.output / name, said)
        seconds += said.seconds
    note(f"{args.output}: {count} sentences, {seconds:.1f} s, each with its words (.txt) and times (.json)")


def _cover(speaker: "Synthesizer", args: argparse.Namespace) -> None:
    from emotalking.cli.options import note
    from emotalking.tts.phonemes import coverage, coverage_page, inventory, summary
    from emotalking.tts.sentences import curated_speech

    sounds = inventory(args.language)
    said = list(curated_speech(speaker, args.language))
    covered = coverage(said, sounds)
    print(summary(covered))
    for kind, group in (("consonants", sounds.consonants), ("vowels", sounds.vowels)):
        print(f"{kind}: " + "  ".join(f"{sound} {covered.counts[sound]}" for sound in group))
    if args.page is not None:
        coverage_page(covered, said).write(args.page)
        note(f"look at {args.page}")


def _list(speaker: "Synthesizer", language: str) -> None:
    print(f"voices for {language}: {' '.join(speaker.voices(language))}")
    if languages := speaker.languages():
        print(f"languages: {' '.join(languages)}")


def _described(said: "Utterance") -> str:
    known = f", {len(said.words)} words, {len(said.phonemes)} sounds" if said.words and said.phonemes else ""
    return f"{said.seconds:.2f} s in the voice {said.voice}{known}"
