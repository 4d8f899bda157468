"""Every reader of a user's file with a valid file of its own, and what must hold of whatever it reads."""

import io
import itertools
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import numpy as np
import torch
from safetensors.torch import save_file

from emotalking.audio.features import load_features
from emotalking.data.audio_features import AUDIO_FEATURES, DEFAULT_FEATURE
from emotalking.data.compat import PROGRAMS
from emotalking.data.frame import ClipCrop
from emotalking.data.subject import Subject
from emotalking.data.validate import subject_facts, validate
from emotalking.emotion.tracks import EmotionTrack
from emotalking.errors import InputError
from emotalking.evaluate.metrics import single
from emotalking.evaluate.results import AVATAR, Report, Result, Run, read_report, read_result, write_report
from emotalking.evaluate.study import FORMAT, VERSION, Study
from emotalking.io.audio import save_wav
from emotalking.io.images import image_size, read_image, write_image
from emotalking.io.tensors import read_tensors
from emotalking.io.video_writer import VideoWriter
from emotalking.lipsync.personal import PersonalExpert, PersonalNetwork, save_expert
from emotalking.models.avatar import Avatar
from emotalking.models.avatar_file import avatar_facts, read_avatar_metadata
from emotalking.models.config import AudioConfig, BranchConfig, EmotionConfig, ModelConfig
from emotalking.models.gaussians import Gaussians
from emotalking.models.head import TalkingHead
from emotalking.networks.pickles import read_arrays, read_network_pickle
from emotalking.networks.torchscript import read_torchscript
from emotalking.networks.weights import read_weights
from emotalking.player.poses import PoseLoop
from emotalking.player.render_table import read_table
from emotalking.preprocess.import_subject import read_tracker_cameras
from emotalking.preprocess.scan import Scan
from emotalking.preprocess.timeline import Timeline
from emotalking.provenance.certificates import VARIABLE, make_pem, read_credentials
from emotalking.provenance.consent import KEY, consent_facts, read_consent
from emotalking.provenance.manifest import Origin
from emotalking.provenance.signing import finisher, read_signature, sidecar
from emotalking.train.callbacks.log import LOG, RunLog
from emotalking.train.callbacks.report import write_page
from emotalking.train.callbacks.rows import read_log
from emotalking.train.checkpoint import Checkpoint, write_checkpoint
from emotalking.train.config import TrainConfig
from emotalking.train.context import Context
from emotalking.train.many import SubjectResult, TrainManyResult, make_page, with_record
from emotalking.train.optim import gaussian_optimizer, network_optimizer
from emotalking.train.presets import preset
from emotalking.train.sampler import FrameSampler
from emotalking.train.step import Stage
from emotalking.tts.base import TimedLabel, Utterance
from emotalking.tts.timing import read_times, write_times

from ..data.conftest import FRAMES, make_tiny
from ..scenes import still_scene
from ..stylegan.stylegan2_layouts import pytorch, random_weights
from ..stylegan.stylegan2_pickles import write_pytorch, write_tensorflow
from . import mutations as m
from .live_readers import add_live

SIZE = 32


@dataclass(frozen=True)
class Reader:
    """A file, and the functions that read it."""

    path: Path
    read: Callable[[Path], Any]
    """Raises AssertionError where what was read is not valid."""
    mutations: tuple[m.Mutation, ...]


def finite(*values: Any) -> None:
    """All numbers are finite."""
    for value in values:
        array = value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        assert np.isfinite(array).all()


def make_avatar(path: Path) -> None:
    torch.manual_seed(0)
    config = ModelConfig(AudioConfig(), BranchConfig(40, sh_degree=1), BranchConfig(10, hidden=32), EmotionConfig())
    face = Gaussians(torch.rand(40, 3) * 0.1 - 0.05, torch.rand(40, 3), 1)
    head = TalkingHead(config, face, Gaussians(torch.rand(10, 3) * 0.02, torch.rand(10, 3), 2))
    head.face.audio.closed = torch.zeros(32)
    head.mouth.audio.closed = torch.zeros(32)
    place = ClipCrop(2, 3, 40, 64, 48, np.arange(3))
    scene = still_scene(SIZE, SIZE, torso=(20, (200, 60, 20)), focal=80.0, place=place)
    Avatar(head, scene, {"licences": {"a": "b"}, "run": {"train": {}}, "command": "emotalking train"}).save(path)
    unchecked(path)


def unchecked(path: Path) -> None:
    """Without the checksum, so that damage reaches the checks behind it."""
    metadata, tensors = read_tensors(path)
    save_file(tensors, path, metadata=metadata)


def use_avatar(path: Path) -> None:
    read_avatar_metadata(path)
    assert "avatar" in avatar_facts(path)
    avatar = Avatar.load(path)
    finite(avatar.viewmats, avatar.aus, avatar.va, *avatar.head.state_dict().values())
    assert 0 < avatar.fps <= 1000 and avatar.background.shape == (avatar.height, avatar.width, 3)
    poses = PoseLoop(avatar.viewmats, avatar.aus, float(avatar.fps)).at(np.arange(8))
    assert avatar.torso(0).shape == (avatar.height, avatar.width, 4)
    channels, steps = avatar.head.config.audio.channels, avatar.head.config.audio.steps
    if avatar.width * avatar.height <= 1 << 16 and channels * steps <= 1 << 16:
        windows = torch.zeros(1, 8, channels, steps)
        view = torch.from_numpy(poses.viewmats[:1].astype(np.float32))
        speech = torch.ones(1) if avatar.closes_lips else None
        rendered = avatar.render(view, windows, torch.from_numpy(poses.aus[:1]), torch.zeros(1, 2), speech=speech)
        assert rendered.rgb.shape[1:3] == (avatar.height, avatar.width)


def use_subject(root: Path) -> None:
    subject = Subject.open(root)
    finite(subject.viewmats, subject.focal)
    assert 0 < subject.fps <= 1000 and subject.num_frames == len(subject.train_indices) + len(subject.val_indices)
    assert subject.frame(0).image.shape == (subject.height, subject.width, 3)
    finite(subject.mouth_opening[subject.landmarks.detected])
    assert subject.audio_features().ndim == 3
    assert subject.aus.shape == (subject.num_frames, 6) and len(subject.au25) == subject.num_frames
    _ = subject.valence_arousal


def look_at_subject(root: Path) -> None:
    """The folder's checks never fail; the other readers do so with a sentence."""
    for compat in (None, *PROGRAMS):
        assert all(finding.what for finding in validate(root, compat))
    subject_facts(root)


class MadeStage(Stage):
    """A stage with the parts that a checkpoint restores."""

    name = "face"
    iterations = 20

    def __init__(self, head: TalkingHead) -> None:
        config: TrainConfig = preset("tiny")
        self.context = cast(Context, SimpleNamespace(state_dict=dict, load_state_dict=lambda state: None))
        self.optimizers = {
            "gaussians": gaussian_optimizer(head.face.gaussians, config.optim, 1.0),
            "networks": network_optimizer([head.face.audio, head.face.motion], config.optim),
        }
        self.sampler = FrameSampler(9, torch.Generator())
        self.sampler.draw()

    def state_dict(self) -> dict[str, Any]:
        return self.sampler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sampler.load_state_dict(state)


MODEL = ModelConfig(face=BranchConfig(12, sh_degree=0, hidden=4), mouth=BranchConfig(5, sh_degree=0, hidden=4))


def made_head() -> TalkingHead:
    torch.manual_seed(1)
    face = Gaussians(torch.rand(12, 3), torch.rand(12, 3), 0)
    return TalkingHead(MODEL, face, Gaussians(torch.rand(5, 3), torch.rand(5, 3), 0))


def stepped(stage: MadeStage) -> None:
    """One update, so that there are moments, or that restored ones are used."""
    for optimizer in stage.optimizers.values():
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.full_like(parameter, 1e-3)
        optimizer.step()


def make_checkpoint(path: Path) -> None:
    head = made_head()
    stage = MadeStage(head)
    stepped(stage)
    write_checkpoint(path, head, stage, 1, 7, torch.Generator(), {"train": {}}, {"mouth": 1.5})


def use_checkpoint(path: Path) -> None:
    checkpoint = Checkpoint.read(path, {"train": {}})
    checkpoint.check_stage(4)
    head = checkpoint.head(MODEL, "cpu")
    finite(*head.state_dict().values())
    stage = MadeStage(head)
    assert 0 <= checkpoint.restore(stage, torch.Generator()) <= stage.iterations
    stepped(stage)
    assert all(0 <= stage.sampler.draw() < 9 for _ in range(9))
    finite(*checkpoint.stage_seconds.values())


def make_record(folder: Path) -> None:
    log = RunLog(folder)
    settings = {"preset": "tiny", "train": {"seed": 1}, "clip": "", "size": [64, 64]}
    machine = {"device": "cpu", "name": "x", "threads": 1, "versions": {"torch": "2"}}
    frames = {"training": 9, "held_out": 1, "fixed": [9]}
    about = {"time": "now", "command": "train", "subject": "s", "licences": {"a": "b"}, "version": 1, "resumed": None}
    log.add("run", settings=settings, machine=machine, frames=frames, **about)
    memory = {"host": 1.0, "gpu": 0.0}
    for stage in ("mouth", "face"):
        log.add("stage", stage=stage, iterations=40, warmup=3)
        for at in (20, 40):
            rates, terms = {"a.b": 0.1, "c": 0.2}, {"l1": 0.1, "ssim": 0.2}
            counts = {"face": 10, "mouth": 3}
            log.add("step", stage=stage, iteration=at, loss=0.3, terms=terms, raw=terms, rates=rates, gaussians=counts,
                    seconds=1.0, steps_per_second=3.0, memory=memory, grown=1, pruned=0)  # fmt: skip
        log.add("frames", stage=stage, iteration=40, psnr=30.0, psnr_head=20.0, sound_gain=0.1, image="frames/a.jpg")
    log.add("warning", stage="face", name="x", iteration=40, text="y")
    log.add("end", outcome="finished", why="", time="now")


_turn = itertools.count()


def use_record(path: Path) -> None:
    avatar = path.parent.with_name("a.safetensors")
    known = with_record(avatar, "kept")  # a damaged record costs the index its numbers, not itself
    result = TrainManyResult([known, SubjectResult(avatar, "failed", "why")], path.parent.with_name("index.html"))
    page = make_page(result, "tiny", [])
    read_log(path)
    if next(_turn) % 8 == 0:  # its plots take half a second
        page.write(result.page)
        write_page(path.parent)


def make_report(path: Path) -> None:
    metric = single("lpips", 0.03, "made up", 3)
    run = Run(AVATAR, "run", 3, {"lpips": metric, "psnr": single("psnr", 30.0, "", 3)})
    write_report(Report({"a": 1}, {"avatar": {"file": "x"}}, (Result("self", "", 1.0, (run,)),)), path)


def use_report(path: Path) -> None:
    read_result(path, "")
    report = read_report(path)
    for result in report.results:
        for run in result.runs:
            assert all(isinstance(metric.value, float) for metric in run.metrics.values())


def use_track(path: Path) -> None:
    values = EmotionTrack.from_file(path).at(np.linspace(0, 1e4, 50))
    finite(values)
    assert np.abs(values).max() <= 1


def use_times(path: Path) -> None:
    made = read_times(path, np.zeros(16000, np.float32))
    finite([(each.start_s, each.end_s) for each in (*made.words, *made.phonemes)])  # type: ignore[misc]


def use_tensors(tensors: dict[str, torch.Tensor]) -> None:
    assert all(isinstance(name, str) and tensor.device.type == "cpu" for name, tensor in tensors.items())
    for tensor in tensors.values():
        tensor.float().sum()


def use_cameras(path: Path) -> None:
    views, focal = read_tracker_cameras(path)
    finite(views, focal)
    assert focal > 0


def use_timeline(path: Path) -> None:
    timeline = Timeline.load(path)
    assert 0 < timeline.fps <= 1000
    finite(timeline.begin_s)


def saved(content: Any, zipped: bool = True) -> bytes:
    out = io.BytesIO()
    torch.save(content, out, _use_new_zipfile_serialization=zipped)
    return out.getvalue()


def make_readers(root: Path) -> dict[str, Reader]:
    """All readers, with their valid files in folders of their own under ``root``."""
    found: dict[str, Reader] = {}

    def add(name: str, path: Path, read: Callable[[Path], Any], mutations: tuple[m.Mutation, ...]) -> None:
        found[name] = Reader(path, read, mutations)

    def add_new(name: str, content: bytes, read: Callable[[Path], Any], mutations: tuple[m.Mutation, ...]) -> None:
        path = root / name.replace(" ", "_").replace("/", "_") / name.split("/")[-1]
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        add(name, path, read, mutations)

    _add_subject(root / "subject", add)
    _add_own_files(root, add)
    _add_texts(root, add, add_new)
    _add_networks(root, add, add_new)
    _add_provenance(root, add, add_new)
    add_live(root, add, add_new)
    return found


def _add_subject(root: Path, add: Callable[..., None]) -> None:
    make_tiny(root)
    framing = ClipCrop(1, 2, 40, 64, 48, np.arange(FRAMES)).to_json()
    manifest = {"fps": "25", "framing": framing, "clip": {"name": "c", "sha256": "0"}, "steps": {"a": {"key": "b"}}}
    (root / "subject.json").write_text(json.dumps(manifest))

    turn = itertools.count()

    def both(path: Path) -> None:
        if next(turn) % 8 == 0:  # it takes ten times as long
            look_at_subject(root)
        use_subject(root)

    def text_landmarks(path: Path) -> None:
        archive = root / "landmarks.npz"
        archive.rename(root / "kept")
        try:
            both(path)
        finally:
            (root / "kept").rename(archive)

    features = AUDIO_FEATURES[DEFAULT_FEATURE]
    add("cameras", root / "transforms_train.json", both, m.JSON)
    add("manifest", root / "subject.json", both, m.JSON)
    add("landmarks.npz", root / "landmarks.npz", both, m.ZIP)
    add("landmarks.lms", root / "ori_imgs" / "0.lms", text_landmarks, m.TEXT)
    add("teeth.npy", root / "teeth_mask" / "0.npy", both, (*m.BYTES, m.claim))
    add("features in a subject", root / features.file_name, both, (*m.BYTES, m.claim))
    add("action units.csv", root / "au.csv", both, m.TEXT)
    add("valence and arousal.csv", root / "va.csv", both, m.TEXT)
    add("background.jpg", root / "bc.jpg", both, m.BYTES)
    add("parsing.png", root / "parsing" / "0.png", both, m.BYTES)
    add(
        "features.npy",
        root / features.file_name,
        lambda path: finite(load_features(path, DEFAULT_FEATURE, 25).frames(np.arange(3), Fraction(25))),
        (*m.BYTES, m.claim),
    )
    add("image", root / "gt_imgs" / "0.jpg", lambda path: (image_size(path), read_image(path)), m.BYTES)


def _add_own_files(root: Path, add: Callable[..., None]) -> None:
    own = root / "own"
    own.mkdir()
    make_avatar(own / "a.safetensors")
    add("avatar", own / "a.safetensors", use_avatar, (*m.BYTES, *(m.safetensors,) * 12))
    save_expert(PersonalNetwork(), own / "expert.safetensors", {"clip": "x"})
    unchecked(own / "expert.safetensors")
    add("sync expert", own / "expert.safetensors", PersonalExpert.load, (*m.BYTES, *(m.safetensors,) * 8))
    make_checkpoint(own / "checkpoint.pt")
    add("checkpoint", own / "checkpoint.pt", use_checkpoint, (*m.ZIP, *(m.payload,) * 14))
    make_record(root / "run" / "a.safetensors.run")
    add("record", root / "run" / "a.safetensors.run" / LOG, use_record, (*m.TEXT, *(m.rows_of_json,) * 8))
    times, change = np.arange(20) / 25, np.ones(20)
    Scan(times, change, size=(48, 64)).save(own / "scan.npz")
    add("scan.npz", own / "scan.npz", lambda path: finite(Scan.load(path).times), m.ZIP)
    Timeline(Fraction(25), 0.0, np.arange(20), {}).save(own / "clock.npz")
    add("clock.npz", own / "clock.npz", use_timeline, m.ZIP)


def _add_texts(root: Path, add: Callable[..., None], add_new: Callable[..., None]) -> None:
    make_report(root / "report.json")
    add("report.json", root / "report.json", use_report, m.JSON)
    study = {
        "format": FORMAT,
        "version": VERSION,
        "id": "i",
        "title": "t",
        "groups": [{"a": "x", "b": "y"}],
        "emotions": [""],
    }
    add_new("study key.json", json.dumps(study).encode(), Study.read, m.JSON)
    track = [{"time": 0, "emotion": "happy"}, {"time": 1.5, "valence": 0.3, "arousal": -0.2}]
    add_new("track.json", json.dumps(track).encode(), use_track, m.JSON)
    videos = [{"avatar": "a.safetensors", "audio": "a.wav", "emotion": "happy", "output": "a.mp4"}]
    add_new("videos.json", json.dumps(videos).encode(), read_table, m.JSON)
    add_new(
        "videos.csv",
        b"avatar,text,valence,arousal,output\na,Hello,0.5,0.1,b.mp4\nb,Bye,1,0,c.webm\n",
        read_table,
        m.TEXT,
    )
    add_new("track.csv", b"time,valence,arousal\n0,0.5,0.1\n1.5,-0.3,0.2\n4,0,0\n", use_track, m.TEXT)
    words, sounds = (TimedLabel("she", 0.1, 0.5),), (TimedLabel("a", 0.1, 0.2), TimedLabel("b", 0.2, 0.5))
    made = Utterance("she", "en", "v", np.zeros(16000, np.float32), words, sounds, 1.0)
    write_times(root / "times.json", made)
    add("times.json", root / "times.json", use_times, m.JSON)


def _add_networks(root: Path, add: Callable[..., None], add_new: Callable[..., None]) -> None:
    state = {"a.weight": torch.rand(4, 3), "a.bias": torch.rand(4), "n": torch.tensor(3)}
    mixed = (*m.ZIP, *(m.payload,) * 5)
    add_new("weights.pth", saved({"state_dict": state, "epoch": 3}), lambda p: use_tensors(read_weights(p)), mixed)
    old = saved(state, zipped=False)
    add_new("weights of the older format.pt", old, lambda p: use_tensors(read_weights(p)), (*m.BYTES, m.payload))
    out = io.BytesIO()
    np.savez(out, **{name: value.numpy() for name, value in state.items()})
    add_new("weights.npz", out.getvalue(), lambda p: use_tensors(read_weights(p)), m.ZIP)
    add_new("tracker.pt", saved({"euler": torch.rand(5, 3), "trans": torch.rand(5, 3), "focal": torch.ones(1)}),
            use_cameras, mixed)  # fmt: skip
    import pickle

    arrays = {name: value.numpy() for name, value in state.items()}
    add_new("arrays.pkl", pickle.dumps(arrays, 3), lambda p: use_tensors(read_arrays(p)), m.BYTES)
    weights = random_weights(pytorch(16, lambda _: 2, dim=3, layers=2))
    for name, write in (("network.pkl", write_pytorch), ("tensorflow.pkl", lambda p, w: write_tensorflow(p, w, 16))):
        write(root / name, weights)
        add(name, root / name, lambda p: [use_tensors(n.tensors) for n in read_network_pickle(p).values()], m.BYTES)
    module = torch.jit.script(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)))
    module.save(str(root / "script.zip"))
    with zipfile.ZipFile(root / "script.zip") as archive:
        assert any(name.endswith("data.pkl") for name in archive.namelist())
    add("torchscript.zip", root / "script.zip", lambda p: use_tensors(read_torchscript(p)), m.ZIP)


def use_signature(path: Path) -> None:
    found = read_signature(path)
    if found is None or not found.valid:
        raise InputError("no signature, or one that does not hold")
    assert found.ours and found.licences == {"a": "b"}


def _add_provenance(root: Path, add: Callable[..., None], add_new: Callable[..., None]) -> None:
    (root / "signing.pem").write_text(make_pem())
    with mock.patch.dict(os.environ, {VARIABLE: str(root / "signing.pem")}):
        for name in ("signed.png", "signed.jpg", "signed.wav", "signed.mp4", "signed.mkv"):
            path, finish = root / name, finisher(root / name, Origin(licences={"a": "b"}))
            if path.suffix == ".wav":
                save_wav(path, np.zeros(800, np.float32), finish=finish)
            elif path.suffix in (".png", ".jpg"):
                write_image(path, np.zeros((8, 8, 3), np.uint8), finish=finish)
            else:
                with VideoWriter(path, 32, 32, Fraction(25), finish=finish) as writer:
                    writer.write(np.zeros((32, 32, 3), np.uint8))
            add(name, path, use_signature, m.BYTES)
    beside = sidecar(root / "signed.mkv")
    add("signature beside a file.c2pa", beside, lambda path: use_signature(path.with_suffix("")), m.BYTES)
    add("signing key.pem", root / "signing.pem", read_credentials, m.TEXT)
    add_new("consent.txt", b"She agrees. 2026-05-01", lambda path: consent_facts({KEY: read_consent(path).to_json()}),
            m.TEXT)  # fmt: skip
