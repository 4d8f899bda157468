"""Which method does a step of the capture: the embedded one, or a network that the user brings."""

from emotalking.errors import UserError
from emotalking.networks.registry import model_path, models

PARSINGS: dict[str, tuple[str, ...]] = {
    "embedded": (),
    "bisenet": ("bisenet",),
    "bisenet+easyportrait": ("bisenet", "easyportrait"),
}
"""Who parses, and the networks (``models.toml``) needed; "bisenet" alone finds teeth by colour, as "embedded" does."""
EMOTION_MODELS: dict[str, tuple[str, ...]] = {"landmarks": (), "emonet": ("emonet8",), "emonet5": ("emonet5",)}
"""Who reads valence and arousal, and the networks needed."""
NORMALS: dict[str, tuple[str, ...]] = {"mesh": (), "network": ("face_normals",), "none": ()}
"""Where normal maps come from, and the networks needed."""


def check_choice(what: str, chosen: str, table: dict[str, tuple[str, ...]]) -> None:
    """Refuse a choice that does not exist, or whose checkpoints are missing.

    Raises:
        UserError: naming the choices, or the missing file, its source, its licence and what does without it.
    """
    if chosen not in table:
        raise UserError(f"{what} {chosen!r}: give {', '.join(list(table)[:-1])} or {list(table)[-1]}.")
    for name in table[chosen]:
        model_path(name)


def networks(names: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """What ``subject.json`` records of the networks that a step uses: file, its SHA-256, licence.

    Raises:
        UserError: if a checkpoint is missing.
    """
    from emotalking.preprocess.steps import file_hash  # heavy, and the command line's help needs the tables only

    paths = {name: model_path(name) for name in names}
    return {
        name: {"file": path.name, "sha256": file_hash(path), "licence": models()[name].licence}
        for name, path in paths.items()
    }
