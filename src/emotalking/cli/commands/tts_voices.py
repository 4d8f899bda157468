"""``emotalking tts-voices``."""

from typing import Any

from emotalking import api

SECTION = "use it"
FUNCTION = api.list_voices


def run(arguments: dict[str, Any]) -> None:
    """List them."""
    voices, languages = api.list_voices(**arguments)
    print(f"voices for {arguments['language']}: {' '.join(voices)}")
    if languages:
        print(f"languages: {' '.join(languages)}")
