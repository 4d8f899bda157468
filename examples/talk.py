"""Talk with a head on one machine: python talk.py AVATAR [--answers ...], then open the printed address.

The microphone (or a sound file in its place) is listened to; answers are an echo, the lines of a file, or those of any
server with OpenAI's interface; the head says them in the page, or into a file or stream. Who speaks is not talked over.
"""

import argparse
import os
from pathlib import Path

import emotalking
from emotalking.serve.dialogue import AnswerSource, Dialogue, Echo, Script, converse
from emotalking.serve.endpoint import Endpoint
from emotalking.serve.microphone import Listener, listen, microphone, recording
from emotalking.tts.backends import open_synthesizer

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("avatar", help="avatar file (.safetensors)")
parser.add_argument("--answers", default="echo", help="echo, a text file with a line for each answer, or an address")
parser.add_argument("--model", default="default", help="name of the language model, for an address")
parser.add_argument(
    "--hearing",
    choices=("transcribe", "audio"),
    default="transcribe",
    help="what the model of an address is sent: text or sound",
)
how = "Answer in one or two short spoken sentences."
parser.add_argument("--instructions", default=how, help="for the language model: how to answer")
parser.add_argument("--microphone", help="name of the sound card's input, or a sound file in its place")
parser.add_argument("--output", help="also a file (.mp4, .mkv, .ts) or an address (rtmp://...) for the head")
parser.add_argument("--voice", help="of the answers, one of 'emotalking tts-voices'")
parser.add_argument("--language", default="en", help="of the answers, such as en, de or fr")
parser.add_argument("--no-barge-in", action="store_true", help="for a microphone that hears the loudspeakers")
parser.add_argument("--port", type=int, default=8010, help="of the page")


def answers(options: argparse.Namespace) -> AnswerSource:
    """What answers."""
    if options.answers == "echo":
        return Echo()
    if "://" not in options.answers:
        return Script(Path(options.answers).read_text("utf-8").splitlines())
    key = os.environ.get("OPENAI_API_KEY")
    return Endpoint(options.answers, options.model, hearing=options.hearing, instructions=options.instructions, key=key)


def main() -> None:
    """Listen and answer until the sound ends, or Ctrl+C."""
    options = parser.parse_args()
    file = options.microphone is not None and Path(options.microphone).is_file()
    sound = recording(options.microphone) if file else microphone(options.microphone)
    with emotalking.serve([options.avatar], port=options.port, stream=options.output) as server:
        dialogue = Dialogue(
            server.own_session(),
            answers(options),
            open_synthesizer("auto"),
            language=options.language,
            voice=options.voice,
        )
        server.start()
        print(f"open {server.link}", flush=True)
        try:
            converse(listen(sound, Listener()), dialogue, barge_in=not options.no_barge_in)
            dialogue.finish()
        except KeyboardInterrupt:
            dialogue.interrupt()
    for message in dialogue.history:
        print(f"{message.role}: {message.text or '(sound)'}")


if __name__ == "__main__":
    main()
