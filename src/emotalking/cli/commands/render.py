"""``emotalking render``."""

import time

from emotalking import api
from emotalking.cli.commands import Arguments
from emotalking.cli.console import announce_device, note

SECTION = "use it"
FUNCTION = api.render
IF_INTERRUPTED = "no video was written; frames already in the frames folder are whole, and --overwrite replaces them"
EXAMPLES = """examples:
  emotalking render someone.safetensors --audio speech.mp3 -o out.mp4 --emotion happy
  emotalking render someone.safetensors --audio speech.wav -o out.mp4 --va -0.5,0.3
  emotalking render someone.safetensors --audio speech.wav -o out.webm --background transparent
  emotalking render someone.safetensors --text "Good morning!" --voice f2 -o out.mp4 --strip strip.png
  emotalking render someone.safetensors --audio speech.wav -o out.mp4 --emotion auto --emotion-file emotion.png
  emotalking render someone.safetensors --text "[happy] Hello! [sad:0.6] I have to go." -o out.mp4
  emotalking render someone.safetensors --audio speech.wav --frames-folder maps --view attention --emotion happy

At most one of --emotion, --va and --track is given; without any, the face stays as it was recorded.
"""


def run(arguments: Arguments) -> None:
    """Render the video."""
    from emotalking.progress import bar

    if arguments["audio"] is None and arguments["text"] is None:
        api.render(**arguments)  # refuses before the avatar is read
    avatar = api.load_avatar(arguments.pop("avatar"), arguments["device"])
    announce_device("rendering", arguments["device"])
    if arguments["vad"] and not avatar.closes_lips:
        note("this avatar has no closed-mouth code: in silence its lips stay partly open (retrain it to close them)")
    begin = time.perf_counter()
    with bar() as progress:
        task = progress.add_task("audio", total=None, note="")

        def show(done: int, total: int) -> None:
            progress.update(task, description="render", completed=done, total=total)

        made = api.render(avatar, progress=show, **arguments)
    if arguments["view"] == "depth":
        from emotalking.player.views import DEPTH_COLOURS, depth_range

        near, far = depth_range(avatar)
        note(f"depth along the camera's axis, {near:.3f} to {far:.3f} world units, about metres ({DEPTH_COLOURS})")
    rate = made.frames / (time.perf_counter() - begin)
    where = " and ".join(str(place) for place in (made.video, made.folder, made.strip) if place is not None)
    note(f"{where}: {made.frames} frames, {made.seconds:.2f} s ({rate:.1f} fps)")
