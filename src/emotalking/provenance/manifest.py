"""What a signature states of an output (C2PA 2.2: claim generator, action "created", and an assertion of our own)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from emotalking import __version__
from emotalking.provenance.consent import consent_of

TOOL = "emotalking"
ORIGIN = "org.emotalking.origin"
"""Label of our own assertion: avatar, consent, licences."""
SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
"""Beginning of IPTC's addresses of digital source types."""
LICENCES = {
    "emotalking (tracking, masks, action units, emotional targets, training)": "Apache-2.0",
    "MediaPipe's face mesh and person segmentation, part of this package": "Apache-2.0",
}
"""Licences of what touches every avatar and every edited face."""
SourceType = Literal["trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia", "algorithmicMedia"]


@dataclass(frozen=True)
class Origin:
    """What made an output, and of what."""

    source_type: SourceType = "trainedAlgorithmicMedia"
    """IPTC's term; composite: recorded footage with synthetic parts; algorithmic: made by rules, without training."""
    avatar: str | None = None
    """SHA-256 of the avatar's file."""
    consent: str | None = None
    """SHA-256 of the statement of consent that the avatar carries."""
    licences: Mapping[str, str] = field(default_factory=dict)
    """Licence of each model and tool that touched it."""
    avatar_file: Path | None = None
    """The avatar's file, which is not stated."""

    @classmethod
    def of_avatar(
        cls, avatar: object, *, composite: bool = False, licences: Mapping[str, str] | None = None
    ) -> "Origin":
        """What is rendered of an avatar.

        Args:
            avatar: with ``metadata`` and the ``sha256`` of its file, where these are known.
            composite: rendered into recorded frames.
            licences: of what else is in the output, such as its speech.
        """
        metadata = getattr(avatar, "metadata", None) or {}
        consent, own = consent_of(metadata), metadata.get("licences")
        return cls(
            "compositeWithTrainedAlgorithmicMedia" if composite else "trainedAlgorithmicMedia",
            getattr(avatar, "sha256", None),
            None if consent is None else consent.sha256,
            {**(own if isinstance(own, Mapping) else {}), **(licences or {})},
            getattr(avatar, "file", None),
        )


def definition(origin: Origin) -> dict[str, object]:
    """The manifest of an output that is made now, as the C2PA library takes it."""
    agent = {"name": TOOL, "version": __version__}
    created = {
        "action": "c2pa.created",
        "digitalSourceType": SOURCE_TYPES + origin.source_type,
        "softwareAgent": agent,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    facts = {
        "avatar_sha256": origin.avatar,
        "consent_sha256": origin.consent,
        "licences": {str(name): str(licence) for name, licence in origin.licences.items()},
    }
    return {
        "claim_generator_info": [agent],
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [created]}},
            {"label": ORIGIN, "data": {name: value for name, value in facts.items() if value is not None}},
        ],
    }
