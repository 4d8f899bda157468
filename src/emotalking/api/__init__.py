"""The verbs of the command line as functions. Importing them loads nothing heavy.

Example:
    >>> import emotalking
    >>> emotalking.prepare("clip.mp4", "someone")
    >>> emotalking.train("someone", "someone.safetensors", preset="fast")
    >>> emotalking.render("someone.safetensors", "speech.wav", "out.mp4", emotion="happy")
"""

from emotalking.api.evaluation import (
    ablate,
    compare,
    draw_figures,
    evaluate,
    make_study,
    measure_sync,
    reproduce,
    serve_study,
    study_results,
)
from emotalking.api.faces import edit_faces, face_sheet, train_faces
from emotalking.api.inspection import get_model, info, list_models, validate
from emotalking.api.rendering import choose_device, load_avatar, render, render_many
from emotalking.api.serving import serve
from emotalking.api.speech import list_voices, phoneme_coverage, synthesize, synthesize_sentences
from emotalking.api.subjects import check, import_subject, prepare, prepare_many, preview
from emotalking.api.training import demo, train, train_many, train_sync_expert, training_report
from emotalking.api.verification import verify

__all__ = [
    "ablate",
    "check",
    "choose_device",
    "compare",
    "demo",
    "draw_figures",
    "edit_faces",
    "evaluate",
    "face_sheet",
    "get_model",
    "import_subject",
    "info",
    "list_models",
    "list_voices",
    "load_avatar",
    "make_study",
    "measure_sync",
    "phoneme_coverage",
    "prepare",
    "prepare_many",
    "preview",
    "render",
    "render_many",
    "reproduce",
    "serve",
    "serve_study",
    "study_results",
    "synthesize",
    "synthesize_sentences",
    "train",
    "train_faces",
    "train_many",
    "train_sync_expert",
    "training_report",
    "validate",
    "verify",
]
