"""What files say about where they come from."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from emotalking.errors import InputError
from emotalking.io.outputs import checked
from emotalking.options import Input, Seconds

if TYPE_CHECKING:
    from emotalking.provenance.signing import Signature
    from emotalking.provenance.verify import MarkReport


@dataclass(frozen=True)
class Verification:
    """What was found in a file."""

    signature: "Signature | None"
    """The signed metadata (C2PA); None: not signed, or not readable."""
    unreadable: str
    """Why signatures cannot be read here; empty: they can."""
    mark: "MarkReport | None"
    """The invisible mark; None: a file without images."""

    @property
    def verdict(self) -> str:
        """signed, marked, signed and marked, or neither signed nor marked; a signature that does not fit is none."""
        signed = self.signature is not None and self.signature.valid
        marked = self.mark is not None and self.mark.marked
        words = [word for word, holds in (("signed", signed), ("marked", marked)) if holds]
        return " and ".join(words) or "neither signed nor marked"


@checked
def verify(path: Input, *, seconds: Seconds = None) -> Verification:
    """Verify a video or an image: its signed metadata, and the invisible mark of avatars.

    Without a mark a file can still be synthetic: by another program, or with the mark removed.

    Args:
        path: video, image or sound.

    Raises:
        InputError: the file cannot be read.
    """
    from emotalking.provenance.signing import read_signature
    from emotalking.provenance.verify import read_mark

    if seconds is not None and not 0 < seconds < float("inf"):
        raise InputError(f"seconds is {seconds:g}: give a positive number.")
    mark = read_mark(path, seconds=seconds)
    try:
        return Verification(read_signature(path), "", mark)
    except InputError as error:
        return Verification(None, str(error), mark)
