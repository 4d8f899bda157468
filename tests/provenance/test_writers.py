"""Every way out of the program: what writes images, sounds or videos signs them, or is listed here with a reason."""

import ast
import re
from pathlib import Path

import emotalking
from emotalking import api
from emotalking.io.outputs import roles
from emotalking.options import Writes

SOURCE = Path(emotalking.__file__).parent
SIGNS = {"write_image", "save_wav", "VideoWriter", "FrameFolder", "write_recording"}
"""Writers that take a last step (``finish``)."""
PLAIN = {"encode_image", "create_media", "create_stream", "imwrite", "imencode", "png"}
"""What else makes media."""
OF_MODULES = {"write": "soundfile", "open": "wave", "save": "gTTS"}
"""Common names that make media where they belong to a module or class."""

NOT_SYNTHETIC, MEASURED, TEMPORARY = "shows recorded footage only", "a report for measuring", "is read back and removed"
WHY_NOT = {
    ("data.writer", "encode_image"): "a subject folder: recorded footage, cut and masked",
    ("data.writer", "save_wav"): "a subject folder: the recorded sound",
    ("emotion.plot", "png"): "a plot of numbers",
    ("evaluate.compare", "create_media"): TEMPORARY,
    ("evaluate.evaluation", "write_image"): MEASURED,
    ("evaluate.speech", "save_wav"): TEMPORARY,
    ("models.avatar_file", "encode_image"): "the background plate inside the avatar file",
    ("preprocess.check.face_pass", "encode_image"): NOT_SYNTHETIC,
    ("preprocess.job", "create_media"): "recorded frames without loss, for the next step",
    ("preprocess.preview", "VideoWriter"): NOT_SYNTHETIC,
    ("preprocess.timeline", "open"): "the recorded sound of a subject folder",
    ("provenance.signing", "encode_image"): "a pixel to try a key out",
    ("report.page", "encode_image"): "thumbnails inside an HTML report",
    ("serve.encoding", "imencode"): "frames of a live stream",
    ("serve.endpoint", "write"): "the user's own voice, for the speech recogniser",
    ("serve.outputs", "create_media"): "a recording is signed when it ends, by the last step that is handed in",
    ("serve.outputs", "create_stream"): "a live stream has its statement in the container's metadata",
    ("testing.demo", "VideoWriter"): "the drawn actor, who is no person; the demo's input",
    ("testing.demo", "save_wav"): "the drawn actor's sound; the demo's input",
    ("train.callbacks.preview", "write_image"): "progress of training, in the run folder",
    ("train.sync_source", "save_wav"): TEMPORARY,
    ("tts.backends", "save"): TEMPORARY,
}
"""Writers that sign nothing, by module and function, and why."""
NO_MEDIA = {
    "ablation": MEASURED,
    "avatar": "carries its consent and licences itself",
    "avatars": "they carry their consent and licences themselves; and a page",
    "comparison": MEASURED,
    "emotion": "keyframes, or a plot of numbers",
    "expert": "a network",
    "generator": "a network",
    "html page": "a page",
    "imported": NOT_SYNTHETIC,
    "measures": "numbers",
    "report": MEASURED,
    "study": "the clips that it is given",
    "subject": NOT_SYNTHETIC,
    "subjects": NOT_SYNTHETIC,
    "times": "numbers",
}
"""Kinds of outputs of ``api`` that hold no synthetic image, sound or video, and why."""


IN_THE_BROWSER = {"recorder.js": "WebM by the browser, which cannot sign; its pixels carry the mark"}
"""Parts of the Studio page that make media, and why these are not signed."""


def test_the_page_makes_no_other_media() -> None:
    made = re.compile(r"MediaRecorder\(|toBlob\(|toDataURL\(|convertToBlob\(|VideoEncoder\(")
    pages = (SOURCE / "serve" / "page").glob("*.js")
    assert {page.name for page in pages if made.search(page.read_text("utf-8"))} == IN_THE_BROWSER.keys()


def named(node: ast.AST) -> tuple[str, str]:
    """Name that an expression refers to, and of what it belongs to."""
    if isinstance(node, ast.Name):
        return node.id, ""
    if isinstance(node, ast.Attribute):
        owner = node.value.func if isinstance(node.value, ast.Call) else node.value
        return node.attr, owner.id if isinstance(owner, ast.Name) else ""
    return "", ""


def signs(call: ast.Call) -> bool:
    """True for a call with a last step."""
    steps = [keyword.value for keyword in call.keywords if keyword.arg == "finish"]
    return bool(steps) and not (isinstance(steps[0], ast.Constant) and steps[0].value is None)


def writers() -> dict[tuple[str, str], list[bool]]:
    """Uses of writers outside ``io`` by module and function: whether each has a last step."""
    found: dict[tuple[str, str], list[bool]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        module = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        nodes = [] if module.startswith("io.") else list(ast.walk(ast.parse(path.read_text("utf-8"))))
        calls = {id(node.func): signs(node) for node in nodes if isinstance(node, ast.Call)}
        for node in nodes:
            name, owner = named(node)
            of_module = bool(owner) and OF_MODULES.get(name) == owner
            if name in PLAIN or of_module or name in SIGNS and id(node) in calls:
                found.setdefault((module, name), []).append(name in SIGNS and calls[id(node)])
    return found


def test_every_writer_signs_or_has_its_reason() -> None:
    silent = {place for place, steps in writers().items() if not all(steps)}
    assert silent <= WHY_NOT.keys(), f"these write unsigned media: {sorted(silent - WHY_NOT.keys())}"
    assert WHY_NOT.keys() <= silent, f"these write no unsigned media any more: {sorted(WHY_NOT.keys() - silent)}"


def test_signing_writers_are_found() -> None:
    signing = {place for place, steps in writers().items() if any(steps)}
    assert signing >= {
        ("player.clip", "VideoWriter"),
        ("player.clip", "FrameFolder"),
        ("player.strip", "write_image"),
        ("faces.files", "VideoWriter"),
        ("faces.files", "FrameFolder"),
        ("faces.files", "write_image"),
        ("api.speech", "save_wav"),
        ("api.speech", "write_recording"),
        ("testing.demo", "save_wav"),
        ("testing.demo", "write_image"),
    }


def test_every_verb_that_writes_avatars_takes_consent() -> None:
    """But for variants of an ablation, which are for measuring, and the demo, whose actor is drawn."""
    writing = {
        verb.__name__: "consent" in roles(verb)
        for verb in (getattr(api, name) for name in api.__all__)
        if callable(verb) and not isinstance(verb, type)
        if {role.kind for role in roles(verb).values() if isinstance(role, Writes)} & {"avatar", "avatars"}
    }
    assert writing == {"train": True, "train_many": True}


def test_every_output_of_the_verbs_is_signed_or_no_media() -> None:
    signed: dict[str, set[str]] = {}
    for verb in (getattr(api, name) for name in api.__all__):
        if not callable(verb) or isinstance(verb, type):
            continue
        kinds = {role.kind for role in roles(verb).values() if isinstance(role, Writes)}
        choosable = "provenance" in roles(verb)
        for kind in kinds - NO_MEDIA.keys():
            signed.setdefault(kind, set()).add(verb.__name__)
            assert choosable or kind == "demo", f"{verb.__name__} writes {kind} and has no choice about it"
    assert signed.keys() >= {"video", "renders", "image", "frames", "sound", "edited", "sentences", "demo"}
