"""From a clip to a subject folder (docs/paper.md 1 and 2): the whole capture, step by step, resumable.

A step is a function of the :class:`Job`: it makes its files and returns what ``subject.json`` records of it. It is run
by :func:`_run`, which names the steps that it builds on and the settings that its product depends on; a second run
skips what is finished. Cameras are written last, so that an unfinished folder is never used as a subject.
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from emotalking.audio.features import write_features
from emotalking.data import Subject
from emotalking.data import writer as write
from emotalking.data.audio_features import DEFAULT_FEATURE
from emotalking.data.frame import from_neutral, to_runs
from emotalking.data.readers import read_intensities
from emotalking.emotion.circumplex import PRESETS
from emotalking.emotion.estimator import ACTED_GAIN, ActionUnitEmotion, at_place
from emotalking.errors import InputError
from emotalking.io.audio import SAMPLE_RATE
from emotalking.io.files import need_space
from emotalking.io.images import read_image
from emotalking.io.video import SHORTEST_S
from emotalking.lipsync.offset import TRUSTED, measure_offset
from emotalking.networks.face_normals import FaceNormals
from emotalking.networks.registry import sha256_of
from emotalking.ops.devices import choose_device
from emotalking.preprocess import action_units as aus
from emotalking.preprocess.action_units import openface_table, read_openface
from emotalking.preprocess.check.clip import check_scanned, plain_part
from emotalking.preprocess.check.face_pass import find_boxes
from emotalking.preprocess.check.measures import mouth_opening
from emotalking.preprocess.config import EMOTION_MODELS, NORMALS, PARSINGS, PrepareConfig, networks
from emotalking.preprocess.gaze import make_gaze
from emotalking.preprocess.job import Job, check_header, check_length, kept_bytes
from emotalking.preprocess.landmarks import open_provider
from emotalking.preprocess.layers import draw_layers, make_background
from emotalking.preprocess.masks import make_masks
from emotalking.preprocess.networks import NetworkParsing, draw_network_normals, open_emotion_model, read_emotion
from emotalking.preprocess.normals import make_normals
from emotalking.preprocess.pose.step import has_pose, make_pose
from emotalking.preprocess.processes import with_processes
from emotalking.preprocess.scan import scan_clip
from emotalking.preprocess.steps import Unfinished
from emotalking.preprocess.timeline import Timeline, clock_warnings, lay_out
from emotalking.preprocess.tracking import LONGEST_GAP_S, check_faces, find_framing, track_landmarks
from emotalking.progress import track

BYTES_A_PIXEL = 2
"""Space that the folder takes at least, for each pixel of each frame; three clips took 2.4 to 3.4."""
OFFSET_S = 600.0
"""At most so much of the clip is compared with its sound."""


def prepare(clip: str | Path, out: str | Path, config: PrepareConfig = PrepareConfig()) -> Subject:
    """Make the subject folder ``out`` of ``clip``; an unfinished folder of an earlier run is completed.

    Args:
        clip: one person talking to the camera, two seconds or longer, with sound.
        out: folder, new or made by an earlier run from the same clip.
        config: options.

    Raises:
        InputError: if the clip cannot be used (no video, no sound, cut short, no face, two faces, too short), or if
            ``out`` holds something else.
    """
    job = Job(Path(clip), Path(out), replace(config, device=str(choose_device(config.device))))
    run_job(job)
    return Subject.open(out)


def run_job(job: Job) -> None:
    """Run what is not finished of a folder."""
    if job.config.action_units is not None:
        openface_table(job.config.action_units)  # refused here, not after minutes of tracking
    with with_processes():
        _run(job, job.steps.run)
    _finish(job)


def is_prepared(clip: Path, out: Path, config: PrepareConfig) -> bool:
    """True if :func:`prepare` has nothing to do.

    Raises:
        InputError: as :func:`prepare`, if ``out`` holds something else.
    """
    job = Job(clip, out, config)
    try:
        _run(job, job.steps.require)
    except Unfinished:
        return False
    return all(job.files.transforms(split).exists() for split in ("train", "val"))


def _run(job: Job, step: Callable[..., None]) -> None:
    """Run all steps in order; each line names a step, its function, what it builds on, settings, a test for its files.

    Args:
        step: :meth:`Steps.run`, which runs a step that is not finished; or :meth:`Steps.require`.
    """
    config = job.config
    files = job.files
    step("check", _check, job, [], [config.turn, config.audio_track])
    part = _used_part(job)
    step("clock", lambda job: _clock(job, part), job, ["check"], [str(config.rate), part], job.clock_file.exists)
    step("framing", _frame, job, ["clock"], job.known(config.size))
    step("landmarks", _landmarks, job, ["framing"], None, lambda: _has_landmarks(job))
    step("pose", make_pose, job, ["landmarks"], job.known(asdict(config.pose)), lambda: has_pose(job))
    if job.person is None:
        step("audio offset", _audio_offset, job, ["pose"], config.audio_offset)
        step("audio", _audio, job, ["audio offset"], None, files.audio.exists)
    parsing = [config.parsing, networks(PARSINGS[config.parsing])]
    step("masks", _masks, job, ["pose"], parsing, lambda: job.has_all(files.parsing, files.teeth))
    step("background", _background, job, ["masks"], None, files.background.exists)
    step("layers", _layers, job, ["background"], None, lambda: job.has_all(files.target, files.torso))
    if config.normals != "none":
        normals = [config.normals, networks(NORMALS[config.normals])]
        step("normals", _normals, job, ["masks"], normals, lambda: job.has_all(files.normals))
    step("action units", _action_units, job, ["pose"], _hash(config.action_units), files.action_units.exists)
    step("gaze", make_gaze, job, ["action units"], None, files.gaze.exists)
    emotion = [config.emotion_model, networks(EMOTION_MODELS[config.emotion_model])]
    emotion += [] if job.shows is None else [job.shows]
    step("emotion", _emotion, job, ["action units"], emotion, files.valence_arousal.exists)
    if job.person is not None:
        step("colours", _colours, job, ["pose"], job.person.key)
    else:
        step("audio features", _features, job, ["audio"], DEFAULT_FEATURE, files.audio_features().exists)


def _hash(path: str | Path | None) -> str | None:
    """Content of a file among a step's settings; a missing file is for the step to complain about."""
    return None if path is None else sha256_of(Path(path)) if Path(path).is_file() else str(path)


def _check(job: Job) -> dict[str, Any]:
    """Check whether the clip can become an avatar, before hours are spent on it."""
    header = check_header if job.person is None else check_length
    scan = scan_clip(job.clip, job.work, header, turn=job.config.turn, audio_track=job.config.audio_track)
    scan.save(job.scan_file)
    job.scan = scan
    # The frames for the framing are the same unless the faces shorten the part: they are searched in the same pass.
    likely = _lay_out(job, _limited(job.config, plain_part(scan)))
    boxes = _for_framing(likely).source.tolist()
    found, job.boxes = check_scanned(job.clip, scan, boxes, spoken=job.person is None)
    facts = {"verdict": found.verdict, "reasons": found.reasons, "part_s": found.part}
    return facts | {"warnings": [f"{job.clip.name}: {warning}" for warning in found.warnings]}


def _used_part(job: Job) -> tuple[float | int, float | int]:
    """Begin and end [s] of what will be used; refuses a clip that the check calls unusable, unless forced."""
    found, config = job.steps.facts("check"), job.config
    if found["verdict"] == "unusable" and not config.force:
        raise InputError(
            f"{job.clip} cannot be used: {'; '.join(found['reasons'])} (see the footage check; the option "
            "force continues all the same)."
        )
    begin, end = found["part_s"]
    return _limited(config, (begin, end))


def _limited(config: PrepareConfig, part: tuple[float, float]) -> tuple[float | int, float | int]:
    """The part that was chosen, or else ``part``, as far as the limit allows; everything if it is too short."""
    begin, end = config.part or part
    if end - begin < SHORTEST_S:
        begin, end = 0.0, float("inf")
    return begin, end if config.seconds is None else min(end, begin + config.seconds)


def _lay_out(job: Job, part: tuple[float | int, float | int]) -> Timeline:
    """Clock of the subject for a part of the clip."""
    sound = None if job.person is not None else job.scan.sound
    return lay_out(job.scan, job.config.rate, part, None if sound is None else (sound.begin, sound.end))


def _clock(job: Job, part: tuple[float | int, float | int]) -> dict[str, Any]:
    """Frames of the clip that make the subject, and their times: true rate, used part, damage."""
    scan, timeline = job.scan, _lay_out(job, part)
    sound = scan.sound if job.person is None else None
    if sound is None and job.person is None:
        raise InputError(f"{job.clip} has an audio stream without a single sample: give a file with sound.")
    seconds = float(len(timeline.source) / timeline.fps)
    if seconds < SHORTEST_S:
        if job.config.part is not None and (lasts := timeline.facts["clip_s"]) >= SHORTEST_S:
            raise InputError(
                f"{job.clip} lasts {lasts:.1f} s, of which the part {part[0]:g},{part[1]:g} holds {seconds:.1f} s; "
                f"choose at least {SHORTEST_S:.0f} s of it."
            )
        promised = scan.damage.promised_s
        cut = "" if promised is None else f" (it is cut short: it promises {promised:.1f} s; copy or export it again)"
        raise InputError(f"{job.clip} lasts {seconds:.1f} s{cut}; give a clip of at least {SHORTEST_S:.0f} s.")
    hold, at = timeline.facts["longest_hold_s"], timeline.facts["longest_hold_at_s"]
    if hold > LONGEST_GAP_S:
        raise InputError(
            f"{job.clip} has no new frame for {hold:.1f} s from {at:.1f} s on; choose a part before or behind it."
        )
    if job.config.action_units is not None:  # too few rows are refused here, not after minutes of tracking
        read_openface(job.config.action_units, len(timeline.source), timeline.fps, timeline.begin_s)
    timeline.save(job.clock_file)
    vars(job).pop("timeline", None)
    return timeline.facts | {"warnings": clock_warnings(job.clip, scan, sound, timeline)}


def _for_framing(timeline: Timeline) -> Timeline:
    """Frames, spread over the clip, in which the face is searched for the framing."""
    count, fps = len(timeline.source), timeline.fps
    return timeline.every(max(int(min(max(count / 24, fps / 5), fps * 4)), 1))


def _frame(job: Job) -> dict[str, Any]:
    chosen = _for_framing(job.timeline)
    numbers = chosen.source.tolist()
    if missing := set(numbers) - job.boxes.keys():
        job.boxes |= find_boxes(job.clip, missing, job.scan.view)
    detections = ((float(i / chosen.fps), job.boxes[number]) for i, number in enumerate(numbers))
    most = 512 if job.person is None else job.person.width
    square = find_framing(job.clip, job.scan.size, detections, job.config.size, most)
    pixels = len(job.timeline.source) * square.size**2
    need_space(job.files.root, pixels * BYTES_A_PIXEL + kept_bytes(pixels))
    return {"square": asdict(square), "clip": [*job.scan.size[::-1]], "turn": job.scan.turn}


def _landmarks(job: Job) -> dict[str, Any]:
    _drop_frames(job)
    provider = open_provider(job.config.device)
    try:
        frames = track(job.frames(), "landmarks", job.count)
        found = track_landmarks(frames, provider, lambda i, image: write.write_original(job.files.root, i, image))
    finally:
        provider.close()
    check_faces(found.detected, job.clip, float(job.fps))
    job.save_track(found)
    lost = np.flatnonzero(~found.detected).tolist()
    return {"provider": found.provider, "frames": job.count, "frames_without_face": lost}


def _has_landmarks(job: Job) -> bool:
    return (job.work / "provider.txt").exists() and job.has_all(job.files.original)


def _drop_frames(job: Job) -> None:
    """Forget an earlier run's frames: the tail of a longer one must not remain."""
    files = job.files
    every = (files.original, files.ibug_landmarks, files.parsing, files.teeth, files.target, files.torso, files.normals)
    for name in every:
        example = name(0)
        for path in example.parent.glob(f"*{example.suffix}"):
            if path.stem.isdigit():
                path.unlink()
    job.frames_file.unlink(missing_ok=True)


def _audio_offset(job: Job) -> dict[str, Any]:
    """Measured delay of the sound, and the delay that will be corrected."""
    if not isinstance(job.config.audio_offset, str):
        seconds = float(job.count / job.fps)
        if abs(job.config.audio_offset) > seconds / 2:
            raise InputError(
                f"audio offset {job.config.audio_offset:g} s: the part of {job.clip} lasts {seconds:.1f} s, and more "
                "than half of it would be without sound; give a smaller one, or auto."
            )
        return {"applied_s": float(job.config.audio_offset)}
    if job.config.audio_offset == "none":
        return {"applied_s": 0.0}
    # The middle of a long clip determines it as well as all of it.
    most = int(OFFSET_S * job.fps)
    first = max(job.count - most, 0) // 2
    mouth = mouth_opening(job.head()[first : first + most], job.layout)
    sound = job.sound(job.timeline.begin_s + float(first / job.fps), float(len(mouth) / job.fps))
    found = measure_offset(mouth, job.fps, sound)
    trusted = found.confidence >= TRUSTED and abs(found.seconds) >= 0.5 / job.fps
    facts = {"measured_s": round(found.seconds, 4), "confidence": round(found.confidence, 4)}
    return facts | {"applied_s": round(found.seconds, 4) if trusted else 0.0}


def _audio(job: Job) -> dict[str, Any]:
    late = float(job.steps.facts("audio offset")["applied_s"])
    return {
        "rate_hz": SAMPLE_RATE,
        "silent_s": job.timeline.write_sound(job.files.audio, job.clip, late, job.config.audio_track),
    }


def _masks(job: Job) -> dict[str, Any]:
    chosen, provider = job.config.parsing, None
    if PARSINGS[chosen]:
        provider = NetworkParsing.open(chosen, job.config.device)
    facts = make_masks(job.files, job.frames(), job.points(), job.layout, provider)
    return facts | {"networks": networks(PARSINGS[chosen])}


def _background(job: Job) -> dict[str, Any]:
    return make_background(job.files, job.count)


def _layers(job: Job) -> dict[str, Any]:
    return draw_layers(job.files, job.frames(), job.count)


def _normals(job: Job) -> dict[str, Any]:
    if job.config.normals == "network":
        network = FaceNormals.open()
        facts = draw_network_normals(job.files, job.frames(), job.points(), job.layout, network, job.config.device)
        return facts | {"networks": networks(NORMALS["network"])}
    pose = job.pose()
    return make_normals(job.files, job.head(), pose.shape, pose.viewmats, pose.focal, job.layout)


def _action_units(job: Job) -> dict[str, Any]:
    if job.config.action_units is not None:
        values = read_openface(job.config.action_units, job.count, job.fps, job.timeline.begin_s)
        write.write_action_units(job.files.root, values, job.fps)
        return {"provider": "OpenFace CSV"}
    found, pose = job.track(), job.pose()
    opening = aus.raw_opening(found.points[..., :2], pose.viewmats, pose.focal, pose.shape, job.size, job.layout)
    rest = None if job.person is None else job.person.rest
    values = aus.action_units(job.head(), pose.viewmats, job.layout, float(job.fps), opening, rest)
    write.write_action_units(job.files.root, values, job.fps, found.detected)
    return {"provider": "landmarks"}


def _emotion(job: Job) -> dict[str, Any]:
    chosen, gain = job.config.emotion_model, 1.0
    facts: dict[str, Any]
    if EMOTION_MODELS[chosen]:
        values = read_emotion(job.frames(), job.points(), job.layout, open_emotion_model(chosen, job.config.device))
        facts = {"provider": chosen, "networks": networks(EMOTION_MODELS[chosen])}
    else:
        estimator = ActionUnitEmotion()
        values, gain = estimator.estimate(read_intensities(job.files.action_units), float(job.fps)), ACTED_GAIN
        facts = {"provider": estimator.name}
    if job.person is not None:
        values = from_neutral(values, job.person.neutral, gain)
        if job.shows is not None:
            values, facts["shows"] = at_place(values, PRESETS[job.shows]), job.shows
    write.write_valence_arousal(job.files.root, values)
    return facts


def _colours(job: Job) -> dict[str, Any]:
    """What brings the clip's skin to the main clip's colours."""
    assert job.person is not None
    frames = job.files.original
    match = job.person.colour_match(lambda index: read_image(frames(index)), job.track().detected, job.points())
    return {"coefficients": np.round(match.coefficients, 5).tolist()}


def _features(job: Job) -> dict[str, Any]:
    write_features(job.files.audio_features(), job.files.audio, DEFAULT_FEATURE, job.count, job.fps)
    return {"provider": DEFAULT_FEATURE}


def _finish(job: Job) -> None:
    """Write the whole manifest, and last of all the cameras."""
    pose = job.pose()
    steps = job.manifest["steps"]
    height, width = job.size
    job.manifest |= {
        "fps": str(job.fps),
        "frames": job.count,
        "width": width,
        "height": height,
        "framing": steps["framing"]["square"]
        | ({"turn": turn} if (turn := steps["framing"].get("turn", 0)) else {})
        | {"clip": steps["framing"]["clip"], "clip_frames": to_runs(job.timeline.source)},
        "check": {name: steps["check"][name] for name in ("verdict", "reasons", "warnings")},
        "part": steps["clock"]["part_s"],
        **({"audio_offset_s": steps["audio offset"]["applied_s"]} if job.person is None else {}),
        "warnings": [warning for record in steps.values() for warning in record.get("warnings", ())],
        "providers": {name: record["provider"] for name, record in steps.items() if "provider" in record},
    }
    write.write_manifest(job.files.root, job.manifest)
    write.write_transforms(job.files.root, pose.viewmats, pose.focal, width, height)
    job.remove_scratch()
