"""Many subjects on a Ray cluster of four machines, simulated on this one, while things break; and one after another.

python benchmarks/many_jobs.py [--subjects 8] [--renders 200] [--name many_jobs] [--overhead]

Clips of the synthetic actor, 2.2 s, are prepared at 64 pixels and trained for a few steps, and the avatars are
rendered, by the verbs' own functions. Meanwhile one machine is killed in the middle of a training, the memory of
one worker is full (its address space is limited while it works), one worker is killed as by the system, and one
clip is broken. Then: is everything else there, was anything that was finished done again, and are the files those
of one process that did one job after another?

python benchmarks/many_jobs.py --overhead measures the time per job with jobs that do nothing.
"""

import json
import logging
import os
import resource
import signal
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import _report
import numpy as np
import soundfile
import torch
from safetensors.torch import load_file

from emotalking.api.rendering import render_jobs
from emotalking.cores import use_at_most
from emotalking.jobs.config import JobsConfig
from emotalking.jobs.engine import Engine, Sequential, open_engine
from emotalking.jobs.job import Job, Outcome
from emotalking.jobs.page import ManyResult
from emotalking.player.render_table import read_table
from emotalking.preprocess.config import PrepareConfig
from emotalking.preprocess.many import prepare_many
from emotalking.testing.actor.performance import Performance
from emotalking.testing.demo import film
from emotalking.train.many import train_many

SETTINGS = [
    "model.face.initial_points=120",
    "model.mouth.initial_points=40",
    "mouth.iterations=20",
    "mouth.warmup=1",
    "face.iterations=60",
    "face.warmup=1",
    "emotion.iterations=20",
    "finetune.iterations=10",
    "audio_pretraining=2",
    "motion_pretraining=2",
    "emotion.pretraining=2",
    "closed_mouth_code=2",
    "audio_augmentation=false",
    "checkpoint_every=5",
]
EMOTIONS = ("happy", "sad", "angry", "surprised", "calm")
STORE = 80 << 20
HEAD = {"num_cpus": 1, "object_store_memory": STORE, "include_dashboard": False}
MORE = 64 << 20
"""Bytes that a worker without memory may still have."""


def without_memory(work: Any, marker: Path) -> None:
    """Work; the first time with next to no memory left."""
    if marker.exists():
        work()
        return
    marker.touch()
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (held + MORE, before[1]))
    try:
        np.ones(2 * MORE, np.uint8)  # what the work would do later, and no library that keeps what it got earlier
        work()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def killed(work: Any, marker: Path) -> None:
    """Work; the first time killed in the middle."""
    if not marker.exists():
        marker.touch()
        threading.Timer(0.03, os.kill, (os.getpid(), signal.SIGKILL)).start()
    work()


class Noted:
    """An engine that puts faults into jobs and keeps outcomes and time."""

    def __init__(self, engine: Engine, faults: dict[str, Any], markers: Path) -> None:
        self.device, self._engine, self._faults, self._markers = engine.device, engine, faults, markers
        self.seconds = 0.0

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        changed = [
            replace(job, work=partial(self._faults[job.name], job.work, self._markers / job.name.replace("/", "_")))
            if job.name in self._faults
            else job
            for job in jobs
        ]
        began = time.perf_counter()
        outcomes = self._engine.run(changed)
        self.seconds = time.perf_counter() - began
        return outcomes


class Run:
    """All three verbs in one folder, by one engine."""

    def __init__(self, root: Path, clips: list[Path], sound: Path, renders: int) -> None:
        self.root, self.clips, self.renders = root, clips, renders
        self.subjects, self.avatars, self.videos = (root / name for name in ("subjects", "avatars", "videos"))
        root.mkdir(parents=True, exist_ok=True)
        self.names = [clip.stem for clip in clips]
        rows = [
            {
                "avatar": str(self.avatars / f"{self.names[number % len(clips)]}.safetensors"),
                "audio": str(sound),
                "emotion": EMOTIONS[number % len(EMOTIONS)] + f":{0.2 + 0.8 * number / renders:.3f}",
                "output": f"{number:03}.mp4",
            }
            for number in range(renders)
        ]
        self.table = root / "videos.json"
        self.table.write_text(json.dumps(rows))

    def prepare(self, engine: Engine, *more: Path) -> ManyResult:
        return prepare_many([*self.clips, *more], self.subjects, PrepareConfig(size=64, force=True), engine)

    def train(self, engine: Engine) -> dict[str, str]:
        made = train_many([self.subjects / name for name in self.names], self.avatars, "tiny", SETTINGS, engine)
        return {one.name: one.outcome for one in made.avatars}

    def render(self, engine: Engine) -> dict[str, str]:
        options = {"device": engine.device, "provenance": "off"}
        jobs = render_jobs(read_table(self.table), self.videos, options)
        return {one.name: one.state for one in engine.run(jobs)}

    def finished(self) -> dict[str, int]:
        """How often each job was finished, by its log."""
        logs = [*self.subjects.glob("*.log"), *self.avatars.glob("*.log"), *(self.videos / "logs").glob("*.log")]
        return {str(log.relative_to(self.root)): log.read_text().count(": finished in ") for log in logs}


def count(states: Sequence[str]) -> dict[str, int]:
    return {state: list(states).count(state) for state in dict.fromkeys(states)}


def differences(one: Run, two: Run) -> dict[str, list[str]]:
    """Files of two runs that are not the same bits: subject folders (but for times), tensors of avatars, videos."""

    def subject_files(run: Run) -> dict[str, bytes]:
        kinds = (".jpg", ".png", ".npy", ".npz", ".csv", ".wav", ".lms", ".pt")
        return {
            str(path.relative_to(run.subjects)): path.read_bytes()
            for name in run.names
            for path in (run.subjects / name).rglob("*")
            if path.is_file() and path.suffix in kinds and ".capture" not in path.parts
        }

    def tensors(run: Run) -> dict[str, bytes]:
        return {
            f"{path.stem} {name}": tensor.numpy().tobytes()
            for path in run.avatars.glob("*.safetensors")
            for name, tensor in load_file(path).items()
        }

    found = {}
    for name, of in (("subject files", subject_files), ("avatar tensors", tensors), ("videos", videos)):
        mine, its = of(one), of(two)
        found[name] = sorted(key for key in mine | its if mine.get(key) != its.get(key))
        print(f"{name}: {len(mine)} compared, {len(found[name])} differ")
    return found


def videos(run: Run) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.videos.glob("*.mp4")}


def nothing() -> None:
    """The work of an empty job."""


def overhead(engine: Engine, folder: Path, jobs: int = 300) -> dict[str, float]:
    """Time of jobs that do nothing, their logs included: of the first (a process starts), and of one among many."""
    folder.mkdir(parents=True, exist_ok=True)
    made = [Job(f"{number}", folder / f"{number}", nothing, folder / f"{number}.log") for number in range(jobs)]
    began = time.perf_counter()
    engine.run(made[:1])
    first = time.perf_counter() - began
    engine.run(made[:8])  # a process on every machine
    began = time.perf_counter()
    engine.run(made)
    return {"first_job_s": first, "ms_per_job": (time.perf_counter() - began) / jobs * 1e3}


class Anew(logging.Handler):
    """Keeps what the engine tells of jobs that begin anew."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "begins anew" in record.getMessage():
            self.told.append(record.getMessage())


def overheads(work: Path) -> dict[str, Any]:
    """Overhead of both engines; Ray on a cluster of four machines."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=HEAD)
    for _ in range(3):
        cluster.add_node(num_cpus=1, object_store_memory=STORE)
    try:
        began = time.perf_counter()
        with open_engine(JobsConfig(address=cluster.address), "cpu") as engine:
            joined = time.perf_counter() - began
            ray = {"join_s": joined} | overhead(engine, work / "ray")
    finally:
        cluster.shutdown()
    results = {"ray": ray, "sequential": overhead(Sequential("cpu"), work / "sequential")}
    print(json.dumps(results, indent=1))
    return results


def on_cluster(run: Run, work: Path, broken: Path) -> dict[str, Any]:
    """All verbs on four machines, one of which is killed; and again, when everything is there."""
    import ray
    from ray.cluster_utils import Cluster

    markers = work / "markers"
    markers.mkdir()
    began = time.perf_counter()
    anew = Anew()
    logging.getLogger("emotalking").addHandler(anew)
    logging.getLogger("emotalking").setLevel(logging.INFO)
    cluster = Cluster(initialize_head=True, head_node_args=HEAD)
    nodes = [cluster.add_node(num_cpus=1, object_store_memory=STORE) for _ in range(3)]
    found: dict[str, Any] = {"machines": 4, "start_s": time.perf_counter() - began}

    def kill() -> None:
        """Kill a machine while trainings have checkpoints and some avatar is finished."""
        while not (any(run.avatars.glob("*.safetensors")) and any(run.avatars.glob("*/checkpoint.pt"))):
            time.sleep(0.05)
        cluster.remove_node(victim, allow_graceful=False)

    try:
        with open_engine(JobsConfig(address=cluster.address), "cpu") as engine:
            own = ray.get_runtime_context().get_node_id()
            victim = next(node for node in nodes if node.node_id != own)
            noted = Noted(engine, {run.names[0]: without_memory}, markers)
            made = run.prepare(noted, broken)
            found["prepare"] = {"s": noted.seconds, "states": count([one.state for one in made.outcomes])}
            found["failures"] = {name: why.replace(str(work), "") for name, why in made.failures.items()}
            killer = threading.Thread(target=kill)
            killer.start()
            noted = Noted(engine, {}, markers)
            found["train"] = {"states": count(list(run.train(noted).values())), "s": noted.seconds}
            killer.join()
            noted = Noted(engine, {"007.mp4": killed}, markers)
            found["render"] = {"states": count(list(run.render(noted).values())), "s": noted.seconds}
            found["began_anew"] = [text.replace(str(work), "") for text in anew.told]
            times = run.finished()
            found["finished_more_than_once"] = [name for name, often in times.items() if often > 1]
            noted = Noted(engine, {}, markers)
            again = [one.state for one in run.prepare(noted).outcomes]
            found["again"] = count([*again, *run.train(noted).values(), *run.render(noted).values()])
            found["machines_left"] = sum(node["Alive"] for node in ray.nodes())
    finally:
        cluster.shutdown()
    return found


def main() -> None:
    args = _report.arguments(__doc__)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    torch.set_num_threads(1)
    use_at_most(1)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if args.overhead:
            print(f"written: {_report.write(f'{args.name}_overhead', overheads(work))}")
            return
        (work / "clips").mkdir()
        clips = [work / "clips" / f"actor{number}.mp4" for number in range(args.subjects)]
        for number, clip in enumerate(clips):
            film(clip, Performance.generate(2.2, seed=20 + number), 96)
        broken = work / "clips" / "broken.mp4"
        broken.write_bytes(clips[0].read_bytes()[:2000])
        sound = work / "voice.wav"
        soundfile.write(sound, Performance.generate(0.4, seed=1).waveform[:6400], 16000)
        many, alone = (Run(work / name, clips, sound, args.renders) for name in ("cluster", "alone"))
        results: dict[str, Any] = {"subjects": args.subjects, "renders": args.renders}
        results["cluster"] = on_cluster(many, work, broken)
        print(json.dumps(results, indent=1))
        engine, seconds = Sequential("cpu"), {}
        for verb in ("prepare", "train", "render"):
            noted = Noted(engine, {}, work)
            getattr(alone, verb)(noted)
            seconds[verb] = noted.seconds
        results["sequential"] = {"seconds": seconds}
        results["differ"] = differences(many, alone)
    print(json.dumps(results, indent=1))
    print(f"written: {_report.write(args.name, results)}")


if __name__ == "__main__":
    main()
