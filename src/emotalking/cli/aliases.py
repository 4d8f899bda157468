"""Names of before 0.2.0, accepted for one release: one table, and one note on standard error where one is used."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

REMOVED_IN = "0.3"
"""The release that will no longer accept them."""


@dataclass(frozen=True)
class Alias:
    """An old way of calling a verb."""

    verb: str
    """Old name of the verb."""
    new_verb: str
    flags: Mapping[str, str] = field(default_factory=dict)
    """Old option to new; two words: with its value; "": its value is an argument without an option now, or it is not
    needed any more."""
    when: Collection[str] = ()
    """One of these options must be given; none: always."""
    values: Mapping[str, str] = field(default_factory=dict)
    """Old values to new ones."""
    output_last: bool = False
    """The last argument without an option was the output, now ``--output``."""


_SPEECH = {"--curated": "--language", "--voice": "--voices", "--rate": "--rates"}
_EMOTION_MODEL = {"--judge": "--emotion-model"}
_STUDY = {"-o": "", "--output": ""}
_FACES = {"--habit": "--resting-expression"}

ALIASES = (
    Alias("ablate", "ablate", _EMOTION_MODEL | {"--only": "--variants"}),
    Alias("compare", "compare", _EMOTION_MODEL),
    Alias("demo", "demo", {"--out": "--output"}),
    Alias("evaluate", "reproduce", {"--again": "", "--reproduce": ""}, ("--again", "--reproduce")),
    Alias("evaluate", "evaluate", _EMOTION_MODEL | {"--scenario": "--scenarios"}, values={"all": "self,cross,emotion"}),
    Alias("faces apply", "faces apply", _FACES, output_last=True),
    Alias("faces sheet", "faces sheet", _FACES, output_last=True),
    Alias("faces train", "faces train", {"--out": "--output", "--squares": "--frames"}),
    Alias("import", "import", {"--out": "--output"}),
    Alias(
        "prepare",
        "prepare",
        {"--emotion-judge": "--emotion-model", "--aus": "--action-units"},
        output_last=True,
    ),
    Alias(
        "render",
        "render",
        {"--frames": "--frames-folder", "--transparent": "--background transparent", "--no-silence-gate": "--no-vad"},
    ),
    Alias("say", "tts-voices", {"--voices": ""}, ("--voices",)),
    Alias("say", "tts-coverage", {"--coverage": ""}, ("--coverage",)),
    Alias("say", "tts-sentences", _SPEECH, ("--curated",)),
    Alias("say", "tts"),
    Alias("study", "study results", _STUDY | {"--results": "--answers"}, ("--results",)),
    Alias("study", "study serve", _STUDY | {"--serve": ""}, ("--serve",)),
    Alias("study", "study make", {"--emotion": "--emotions"}, ("-o", "--output")),
    Alias("sync train", "sync train", {"--out": "--output"}),
    Alias("train", "train", {"--fresh": "--no-resume"}, output_last=True),
    Alias("validate", "validate", {"--peer": "--compat"}),
)


def find(verb: str, arguments: Sequence[str]) -> Alias | None:
    """The detected old form of a call of ``verb`` with ``arguments``."""
    given = {word.partition("=")[0] for word in arguments}
    return next((one for one in ALIASES if one.verb == verb and (not one.when or given & set(one.when))), None)


def translate(alias: Alias, arguments: Sequence[str], switches: Collection[str]) -> tuple[list[str], list[str]]:
    """Arguments under their new names, and what was renamed.

    Args:
        switches: options of the new verb that take no value.
    """
    renamed = [f"'{alias.verb}' is '{alias.new_verb}'"] if alias.verb != alias.new_verb else []
    words: list[str] = []
    for word in arguments:
        flag, equals, value = word.partition("=")
        if flag not in alias.flags:
            words.append(alias.values.get(word, word))
            continue
        new = alias.flags[flag].split()
        words += [f"{new[0]}={value}"] if equals and new else [*new, value] if equals else new
        if new:
            renamed.append(f"{flag} is {' '.join(new)}")
    if alias.output_last and not {"-o", "--output"} & {word.partition("=")[0] for word in words}:
        places = _without_option(words, switches)
        if len(places) > 1:
            words[places[-1] : places[-1] + 1] = ["--output", words[places[-1]]]
            renamed.append("the output is -o")
    return words, renamed


def _without_option(words: Sequence[str], switches: Collection[str]) -> list[int]:
    """Numbers of the words that are neither options nor their values."""
    places, value = [], False
    for number, word in enumerate(words):
        if word.startswith("-") and word != "-":
            value = "=" not in word and word not in switches and word not in ("-h", "--help")
        elif value:
            value = False
        else:
            places.append(number)
    return places
