"""``emotalking tts-voices``."""

from emotalking import api
from emotalking.cli.commands import Arguments

SECTION = "use it"
FUNCTION = api.list_voices


def run(arguments: Arguments) -> None:
    """List them."""
    voices, languages = api.list_voices(**arguments)
    print(f"voices for {arguments['language']}: {' '.join(voices)}")
    if languages:
        print(f"languages: {' '.join(languages)}")
