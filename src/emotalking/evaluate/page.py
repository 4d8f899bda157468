"""Report of an evaluation: tables, plots, images, and what all of it was made with."""

from collections.abc import Iterator
from pathlib import Path

from emotalking.evaluate import plots
from emotalking.evaluate.results import AVATAR, Report, Result
from emotalking.evaluate.tables import metric_table, paper_tables, remarks, run_table, split_table
from emotalking.report import Page, Plot

_QUALITY = 85
_SECTIONS = {
    "self": "Self-reconstruction: held-out frames from their own sound, action units and emotion",
    "cross": "Cross-domain audio: sounds that the person never said",
    "emotion": "Emotion-conditioned: twelve points of the valence/arousal plane",
}


def make_page(report: Report, folder: Path) -> Page:
    """Report of an evaluation as a page, Markdown and LaTeX.

    Args:
        report: what was measured.
        folder: where its images lie.

    Raises:
        UserError: an image is missing or cannot be read.
    """
    page = Page("Evaluation", _subtitle(report))
    page.text(f"Command: {report.command}")
    for result in report.results:
        for note in result.notes:
            page.verdict(note, "warn")
    page.heading("Tables")
    for titled in paper_tables(report):
        page.subheading(titled.title)
        page.table(titled.table, caption=f"{titled.title}. {titled.note}".strip())
        if titled.note:
            page.text(titled.note)
    for result in report.results:
        _section(page, result, folder)
    page.heading("Splits")
    page.text("No frame is in both; the avatar's own poses are those of the training frames, bit by bit.")
    page.table(split_table(report.provenance["data"]))
    page.heading("Made with")
    page.facts(dict(_facts(report)))
    return page


def _section(page: Page, result: Result, folder: Path) -> None:
    page.heading(_SECTIONS[result.scenario])
    for plot, caption in _plots(result):
        page.plot(plot, caption)
    for image in result.images:
        page.image(folder / image.file, image.caption, _QUALITY)
    if len(result.of(AVATAR)) > 1:
        page.table(run_table(result))
    page.text("Every metric, its evaluation model, and the number of frames:")
    page.table(metric_table(result))
    for sentence in remarks(result):
        page.text(sentence)


def _plots(result: Result) -> Iterator[tuple[Plot, str]]:
    """Plots of a scenario, with captions."""
    drawn = (
        (plots.psnr_plot if result.scenario == "self" else None, "PSNR of every frame; dots: the worst and the best"),
        (
            plots.circumplex_plot,
            "commanded against measured valence and arousal; grey lines join what belongs together",
        ),
        (plots.confusion_plot, "share of frames [%] of each commanded emotion that the model read as each class"),
        (plots.sync_plot, "sync expert: mean distance between sound and lips over the offset between them"),
        (plots.jitter_plot, "motion of the head in the image by frequency (rigid landmarks)"),
    )
    for draw, caption in drawn:
        plot = None if draw is None else draw(result)
        if plot is not None:
            yield plot, caption


def _subtitle(report: Report) -> str:
    code = report.provenance["code"]
    avatar, subject = Path(report.options["avatar"]).name, Path(report.options["subject"]).name
    return f"{avatar} on {subject}; emotalking {code['version']}, commit {(code['commit'] or 'unknown')[:12]}"


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    known = report.provenance
    machine, clip = known["machine"], known["data"]["clip"] or {}
    commit = (known["code"]["commit"] or "unknown") + (
        " with uncommitted changes" if known["code"]["uncommitted_changes"] else ""
    )
    yield "code", f"emotalking {known['code']['version']}, commit {commit}"
    yield "avatar", f"{known['avatar']['file']}, SHA-256 {known['avatar']['sha256']}"
    yield "clip", f"{clip.get('name', 'not recorded')}, SHA-256 {clip.get('sha256', 'not recorded')}"
    yield "trained by", str(known["training"].get("command") or "not recorded")
    for sound in known["sounds"]:
        yield f"sound {sound['name']}", f"SHA-256 {sound['sha256'][:16]}"
    for what, model in known["evaluation_models"].items():
        yield f"evaluation model: {what}", str(model)
    yield "machine", f"{machine['processor']}, {machine['cores']} cores, GPU: {machine['gpu'] or 'none'}"
    yield "worked on", known["device"]
    yield "packages", ", ".join(f"{name} {version}" for name, version in known["packages"].items())
    for result in report.results:
        yield f"time of {result.scenario}", f"{result.seconds:.0f} s"
