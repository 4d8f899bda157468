"""The parts of a report: numbers in JSON, pooled runs, sounds, spectra, tables, plots and images."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emotalking.errors import InputError
from emotalking.evaluate import page as plots
from emotalking.evaluate import speech as sounds
from emotalking.evaluate.circumplex import circumplex_plot
from emotalking.evaluate.evaluation import changed_metrics
from emotalking.evaluate.images import loudest_stretch, open_eyed
from emotalking.evaluate.metrics import METRICS, Metric, missing, per_frame, single
from emotalking.evaluate.results import (
    AVATAR,
    RECORDED,
    Report,
    Result,
    Run,
    pool,
    read_report,
    read_result,
    to_json,
    write_json,
    write_report,
)
from emotalking.evaluate.scenarios import RIGID, jitter_spectrum
from emotalking.evaluate.tables import PUBLISHED, best, cell, metric_table, paper_tables, remarks, run_table
from emotalking.io.audio import save_wav
from emotalking.report.images import error_map
from emotalking.tts.base import Utterance

from .reports import NOTHING, a_report


def a_run(system: str, title: str, metrics: list[Metric], **more) -> Run:
    facts: dict[str, Any] = {"observed": NOTHING} | more
    return Run(system, title, 2, {metric.name: metric for metric in metrics}, **facts)


def test_plain_values_hold_what_json_cannot(tmp_path: Path) -> None:
    metric = per_frame("psnr", np.array([math.inf, math.nan, 30.123456789]))
    result = Result("self", "key", 1.0, (a_run(AVATAR, "x", [metric, missing("lpips", "no weights")]),))
    write_report(a_report(result), tmp_path / "r.json")
    text = (tmp_path / "r.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert '["inf", null' in " ".join(text.split()).replace("[ ", "[")
    back = read_report(tmp_path / "r.json").results[0].runs[0].metrics
    assert back["psnr"].value == math.inf and math.isnan(back["lpips"].value)
    assert back["psnr"].per_frame is not None and math.isnan(back["psnr"].per_frame[1])
    assert back["psnr"].per_frame[2] == pytest.approx(30.123456789, rel=1e-6)
    assert to_json(np.array([[1.0, 2.0]])) == [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "not whole JSON"),
        ("[]", "no report"),
        ('{"format": "emotalking-evaluation", "version": 1}', "version 1"),
        ('{"format": "emotalking-evaluation", "version": 2, "results": [{}]}', "lacks something"),
    ],
)
def test_a_file_that_is_no_report_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(InputError, match=sentence):
        read_report(tmp_path / "r.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_report(tmp_path / "none.json")


def test_a_kept_scenario_counts_only_under_its_own_key(tmp_path: Path) -> None:
    result = Result("self", "key", 1.0, (a_run(AVATAR, "x", [single("fps", 2.0, frames=2)]),))
    write_json(tmp_path / "self.json", result)
    assert read_result(tmp_path / "self.json", "key") is not None
    assert read_result(tmp_path / "self.json", "other") is None
    (tmp_path / "self.json").write_text("{")
    assert read_result(tmp_path / "self.json", "key") is None


def test_runs_are_pooled_over_their_frames() -> None:
    first = {"v_rmse": per_frame("v_rmse", np.array([1.0, 1.0]))}
    first["fps"] = single("fps", 10.0, frames=1)
    second = {"v_rmse": per_frame("v_rmse", np.array([4.0, np.nan]))}
    second["fps"] = single("fps", 20.0, frames=3)
    whole = pool([first, second])
    assert whole["v_rmse"].value == pytest.approx(math.sqrt(2.0))
    assert (whole["v_rmse"].frames, whole["v_rmse"].missing) == (3, 1)
    assert whole["fps"].value == pytest.approx(17.5)
    assert math.isnan(pool([{"lpips": missing("lpips", "no")}] * 2)["lpips"].value)
    assert pool([{"lpips": missing("lpips", "no")}, {"lpips": single("lpips", 0.2, frames=4)}])["lpips"].value == 0.2


def test_a_metric_with_a_best_value() -> None:
    spec = METRICS["opening_spread"]
    assert spec.head == "opening spread → 1" and spec.ranks and not METRICS["aue_u_rest"].ranks
    found = [single("opening_spread", value) for value in (0.4, 1.3, math.nan, 1.9)]
    assert best(found) == 1.3 and best(found[:1]) is None
    assert METRICS["opening_lag"].text(-0.3) == "0" and METRICS["opening_lag"].text(-80.4, sign=True) == "-80"


def test_the_recordings_lips_are_explained() -> None:
    own = a_run(AVATAR, "x", [single("opening_r", 0.6, "mesh", 30)])
    mirrored = a_run(RECORDED, "x", [single("opening_r", 0.97, "mesh", 30), missing("width_r", "constant")])
    result = Result("self", "", 1.0, (own, mirrored))
    assert metric_table(result).rows == [("opening r ↑", "0.600", "0.970", "30", "0", "mesh")]
    (note,) = remarks(result)
    assert note.startswith("opening r of the recording: landmarks found in its mirrored frames")
    assert remarks(Result("self", "", 1.0, (own,))) == []


def test_tables_have_the_papers_shape_and_mark_what_is_published() -> None:
    own = [per_frame("psnr", np.array([30.0, 32.0])), single("sync_e", 7.0, "SyncNet v2", 9)]
    own += [single("sync_c", 6.5, "SyncNet v2", 9), missing("lpips", "no weights.")]
    truth = [single("sync_e", 6.0, "SyncNet v2", 9), single("sync_c", 8.0, "SyncNet v2", 9)]
    result = Result("self", "", 1.0, (a_run(AVATAR, "x", own), a_run(RECORDED, "x", truth)))
    ours, published = paper_tables(a_report(result))
    assert ours.table.header[:6] == ("Method", "PSNR [dB] ↑", "SSIM ↑", "LPIPS ↓", "LMD [px] ↓", "Sync-E ↓/C ↑")
    assert ours.table.rows[0][5] == "6.000/8.000" and ours.table.rows[1][:2] == ("this avatar", "31.00")
    assert ours.table.rows[1][3] == "-" and "Sync-E, Sync-C measured by: SyncNet v2." in ours.note
    assert ours.note.endswith("Not measured: LPIPS (no weights).")
    assert "not comparable" in published.title and published.table.rows[-1][1] == "33.78"
    assert [row[0] for row in metric_table(result).rows] == ["PSNR [dB] ↑", "Sync-E ↓", "Sync-C ↑"]
    assert remarks(result) == ["Not measured: LPIPS (no weights)."]
    assert cell(None) == "-" and cell(single("psnr", 31.005)) in ("31.00", "31.01")
    cross = Result("cross", "", 1.0, (a_run(AVATAR, "A", own[1:]), a_run(AVATAR, "B", own[1:])))
    table = next(paper_tables(a_report(cross))).table
    assert table.header == ("Method", "Sync-E ↓/C ↑, A", "Sync-E ↓/C ↑, B")
    assert len(run_table(cross).rows) == 2 and run_table(cross).header == ("Run", "Frames", "Sync-E ↓", "Sync-C ↑")
    silent = Result("self", "", 1.0, (a_run(AVATAR, "x", own), a_run(RECORDED, "x", [missing("sync_e", "no expert")])))
    assert [row[0] for row in next(paper_tables(a_report(silent))).table.rows] == ["this avatar"]
    clocked = Result("self", "", 1.0, (a_run(AVATAR, "x", [single("fps", 4.0, frames=2)]),))
    assert metric_table(clocked).rows[0][-1] == "clock"
    assert all(len({len(row) for row in rows}) == 1 for rows in PUBLISHED.values())


def test_differences_below_the_last_printed_digit_are_none() -> None:
    def report(psnr: float, speed: float) -> Report:
        metrics = [single("psnr", psnr), single("fps", speed), missing("lpips", "no")]
        return a_report(Result("self", "", 1.0, (a_run(AVATAR, "x", metrics),)))

    assert changed_metrics(report(30.0, 5.0), report(30.004, 9.0)) == ([], 2)
    found, count = changed_metrics(report(30.0, 5.0), report(30.01, 5.0))
    assert count == 2 and found == ["self, avatar, x, psnr: 30.000 then, 30.010 now"]


def test_a_shaking_head_stands_out_at_its_frequency() -> None:
    rng = np.random.default_rng(0)
    time = np.arange(100) / 25
    points = np.zeros((100, 68, 2), np.float64) + rng.uniform(0, 200, (1, 68, 2))
    points[:, RIGID, 0] += 3.0 * time[:, None] + 0.5 * np.sin(2 * np.pi * 5 * time)[:, None]
    points[40] = np.nan
    spectrum = jitter_spectrum(points, 25)
    assert spectrum is not None
    peak = int(np.argmax(spectrum["px"]))
    assert spectrum["hz"][peak] == pytest.approx(5.0)
    assert spectrum["px"][peak] == pytest.approx(0.5 / math.sqrt(2), rel=0.05)  # one of both axes shakes
    assert jitter_spectrum(points[:15], 25) is None


def test_speech_is_read_no_further_than_needed(tmp_path: Path) -> None:
    ramp = np.linspace(-0.5, 0.5, 32000).astype(np.float32)
    save_wav(tmp_path / "a.wav", ramp)
    whole = sounds.sounds_to_speak([tmp_path / "a.wav"], tmp_path)[0]
    assert (whole.frames(25, None), whole.frames(25, 7), whole.name) == (50, 7, "a.wav")
    part = sounds.sounds_to_speak([tmp_path / "a.wav"], tmp_path, 0.5)[0]
    assert len(part.samples) == 8000 and whole.sha256 != part.sha256
    save_wav(tmp_path / "short.wav", ramp[:800])
    with pytest.raises(InputError, match=r"short.wav holds 0.05 s"):
        sounds.sounds_to_speak([tmp_path / "short.wav"], tmp_path)


class Mumbler:
    """Says everything differently each time."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def voices(self, language: str) -> tuple[str, ...]:
        return ("low", "high", "odd")

    def synthesize(self, text: str, language: str, voice: str) -> Utterance:
        samples = self.rng.uniform(-0.1, 0.1, 1600).astype(np.float32)
        return Utterance(text, language, voice, samples, None, None)


def test_sentences_are_said_once_and_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("emotalking.tts.backends.open_synthesizer", lambda _: Mumbler())
    first = sounds.sounds_to_speak([], tmp_path / "speech")
    monkeypatch.setattr("emotalking.tts.backends.open_synthesizer", lambda _: pytest.fail("said again"))
    again = sounds.sounds_to_speak([], tmp_path / "speech")
    assert [sound.name for sound in first] == ["A_low_sentences_1-5.wav", "B_high_sentences_6-10.wav"]
    assert [sound.sha256 for sound in first] == [sound.sha256 for sound in again]
    assert len(first[0].samples) == 5 * (1600 + 4800) and first[0].sha256 != first[1].sha256


def test_without_a_speaker_and_without_files_one_sentence_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def missing(_: str) -> None:
        raise InputError("espeak-ng is not installed.")

    monkeypatch.setattr("emotalking.tts.backends.open_synthesizer", missing)
    with pytest.raises(InputError, match=r"give audio files.*espeak-ng is not installed"):
        sounds.sounds_to_speak([], tmp_path)


def test_the_confusion_counts_frames_with_a_face() -> None:
    seen = NOTHING | {"classes": ["neutral", "happy"], "expressions": [1, 1, 0, -1], "va": [[0.5, 0.1]] * 4}
    run = a_run(AVATAR, "p", [], commanded=(0.74, 0.31), label="happy", observed=seen)
    result = Result("emotion", "", 1.0, (run,))
    found = plots.confusion(result)
    assert found is not None
    labels, classes, shares = found
    assert classes == ("neutral", "happy")
    assert shares[labels.index("happy")] == pytest.approx([1 / 3, 2 / 3])
    assert shares[labels.index("sad")].sum() == 0
    assert plots.confusion_plot(result) is not None and circumplex_plot(result) is not None
    assert plots.sync_plot(result) is None and plots.jitter_plot(result) is None


def test_plots_count_the_clips_frames_and_many_runs_become_a_band() -> None:
    values = per_frame("psnr", np.array([30.0, 35.0, 32.0]))
    run = a_run(AVATAR, "x", [values, per_frame("psnr_head", np.array([25.0, 26.0, 24.0]))], subject_frames="90-92")
    plot = plots.psnr_plot(Result("self", "", 1.0, (run,)))
    assert plot is not None and plot.axes[0].lines[0].get_xdata().tolist() == [90, 91, 92]

    def emotion(count: int) -> Result:
        spectra = [
            {"hz": [0.0, *range(1, n)], "px": [9.0, *np.linspace(1, 0.1 * n, n - 1)]} for n in (5, 7, 7, 7, 7, 7)
        ]
        runs = [a_run(AVATAR, f"p{n}", [], observed=NOTHING | {"spectrum": spectra[n]}) for n in range(count)]
        return Result("emotion", "", 1.0, tuple(runs))

    few, many = plots.jitter_plot(emotion(2)), plots.jitter_plot(emotion(6))
    assert few is not None and many is not None
    assert [line.get_label() for line in few.axes[0].lines] == ["p0", "p1"]
    assert few.axes[0].lines[0].get_linestyle() != few.axes[0].lines[1].get_linestyle()
    assert [line.get_label() for line in many.axes[0].lines] == ["median of 6 runs (band: all of them)"]
    assert many.axes[0].lines[0].get_xdata().tolist() == [1, 2, 3, 4]  # of the shortest run


def test_images_show_errors_and_choose_the_loudest_frames() -> None:
    truth = np.full((4, 4, 3), 100, np.uint8)
    image = truth.copy()
    image[0, 0] = 160
    shown = error_map(image, truth).astype(int).sum(-1)
    assert shown[0, 0] > 400 and (shown[1:] < 30).all()
    samples = np.zeros(16000, np.float32)
    samples[9600:12800] = 0.5
    assert loudest_stretch(samples, 25, 25) in (range(14, 22), range(13, 21), range(15, 23), range(12, 20))
    assert loudest_stretch(samples, 3, 25) == range(3)


def test_the_moment_that_is_shown_has_open_eyes() -> None:
    blink = np.array([0.0, 0.05, 0.9, 1.0, 1.0, 0.9, 0.1, 0.0])
    assert open_eyed(blink) == 6
    assert open_eyed(np.full(9, 0.7)) == 4
    assert open_eyed(np.zeros(1)) == 0
