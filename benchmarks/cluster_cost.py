"""What many subjects, many hours of rendering and many live sessions need: on paper, and simulated with failures.

python benchmarks/cluster_cost.py [--sessions 10000] [--nic-gbit 100] [...]
python benchmarks/cluster_cost.py --measure someone.safetensors [--subject someone]    first: what a frame costs here

Inputs come from the results of other benchmarks, are assumed where nothing was measured, and can all be given; the JSON
names the source of each. The simulations are discrete-event (_cluster_sim.py): jobs on nodes that fail at the given
rate, and sessions whose clients ask for places by the front's own rule, while one node is lost.
"""

import argparse
import math
from pathlib import Path
from typing import Any

from _cluster_inputs import FPS, RATE, add_options, measure, read
from _cluster_sim import Live, LiveCase, batch
from _report import write

FLEETS = (1, 4, 16, 64)
"""Nodes of the batch simulation."""
SEEDS = 3
SPARE = (0, 1, 2)
"""Nodes of the live simulation beyond those that the mean number of sessions fills."""


def video_fps(x: dict[str, float]) -> float:
    """Frames of video a second for each GPU: what it renders, or what its share of the cores encodes."""
    return min(x["render_fps"], x["share"] * x["cores_a_node"] / x["gpus_a_node"] * 1e3 / x["video_ms"])


def work(x: dict[str, float]) -> dict[str, float]:
    """GPU hours, core hours and bytes of the batch."""
    frames = x["render_hours"] * 3600 * FPS
    made = video_fps(x)
    return {
        "prepare_gpu_hours": x["subjects"] * x["prepare_s"] / 3600,
        "train_gpu_hours": x["subjects"] * x["train_s"] / 3600,
        "render_gpu_hours_alone": frames / x["render_fps"] / 3600,
        "render_gpu_hours": frames / made / 3600,
        "faster_than_played": made / FPS,
        "video_core_hours": frames * x["video_ms"] / 3.6e6,
        "cores_a_gpu_for_video": x["render_fps"] * x["video_ms"] / 1e3,
        "avatars_gb": x["subjects"] * x["avatar_bytes"] / 1e9,
        "subjects_gb": x["subjects"] * x["subject_bytes"] / 1e9,
        "videos_tb": frames * x["video_bytes"] / 1e12,
        "write_mb_s_a_gpu": made * x["video_bytes"] / 1e6,
    }


def limits(x: dict[str, float]) -> dict[str, Any]:
    """Sessions that each part of a node carries, and what 10,000 need."""
    rate = FPS * (x["frame_bytes"] + 2 * RATE / FPS)
    a_node = {
        "GPUs": x["gpus_a_node"] * x["share"] * x["render_fps"] / FPS,
        "cores": x["cores_a_node"] * x["share"] / x["cores_a_session"],
        "network": x["share"] * x["nic_gbit"] * 1e9 / 8 / rate,
    }
    first = min(a_node, key=lambda name: a_node[name])
    a_gpu = a_node[first] / x["gpus_a_node"]
    replicas = math.ceil(a_gpu / x["sessions_a_replica"])  # of a GPU
    places = max(1, math.floor(a_gpu / replicas))
    nodes = math.ceil(x["sessions"] / (places * replicas * x["gpus_a_node"]))
    in_all = round(nodes * replicas * x["gpus_a_node"])
    return {
        "sessions_a_node": a_node,
        "first": first,
        "replicas_a_gpu": replicas,
        "places_a_replica": places,
        "nodes": nodes,
        "nodes_by_part": {name: math.ceil(x["sessions"] / most) for name, most in a_node.items()},
        "replicas": in_all,
        "mbit_s_a_session": rate * 8 / 1e6,
        "gbit_s_in_all": x["sessions"] * rate * 8 / 1e9,
        "tb_a_day": x["sessions"] * rate * 86400 / 1e12,
        "places_asked_a_second": x["sessions"] / (60 * x["session_minutes"]),
        "places_asked_share_of_a_front": x["sessions"] / (60 * x["session_minutes"]) / x["front_places"],
        "controller_share_of_a_core": in_all * x["controller_ms"] / 1e3,
        "replicas_a_controller": x["share"] * 1e3 / x["controller_ms"],
        "replica_back_after_s": x["notice_s"] + x["start_s"],
        "node_failures_a_month": nodes * x["gpus_a_node"] * 730 / x["gpu_hours_between_failures"],
        "share_of_sessions_broken": x["session_minutes"] / 60 * x["gpus_a_node"] / x["gpu_hours_between_failures"],
    }


def simulate_batch(x: dict[str, float]) -> dict[str, Any]:
    """Hours of the whole batch on fleets of nodes, median of seeds; and ideally."""
    clip = 60 * x["clip_minutes"] * FPS / video_fps(x) + x["task_overhead_s"]
    made = round(60 * x["render_hours"] / x["clip_minutes"])
    avatar = x["prepare_s"] + x["train_s"] + 2 * x["task_overhead_s"]
    jobs = [avatar] * round(x["subjects"]) + [clip] * made
    gpus = round(x["gpus_a_node"])
    mtbf = 3600 * x["gpu_hours_between_failures"] / gpus
    found: dict[str, Any] = {"jobs": len(jobs), "seconds_of_a_clip": clip}
    for nodes in FLEETS:
        row: dict[str, Any] = {"gpus": nodes * gpus, "ideal_hours": sum(jobs) / 3600 / nodes / gpus}
        for often in (1, 10):
            runs = [batch(jobs, nodes, gpus, mtbf / often, 3600 * x["repair_hours"], seed) for seed in range(SEEDS)]
            runs.sort(key=lambda run: run["hours"])
            row["failures" if often == 1 else f"failures {often} times as often"] = {
                "hours": runs[SEEDS // 2]["hours"],
                "worst_hours": runs[-1]["hours"],
                "failures": sum(run["failures"] for run in runs) / SEEDS,
                "gpu_hours_lost": sum(run["gpu_hours_lost"] for run in runs) / SEEDS,
            }
        found[f"{nodes} nodes"] = row
    return found


def simulate_live(x: dict[str, float], plan: dict[str, Any]) -> dict[str, Any]:
    """A node lost at full load, with so many nodes more than the mean number of sessions fills."""
    found = {}
    for spare in SPARE:
        case = LiveCase(
            nodes=plan["nodes"] + spare,
            replicas_a_node=round(plan["replicas_a_gpu"] * x["gpus_a_node"]),
            places=plan["places_a_replica"],
            sessions=x["sessions"],
            session_s=60 * x["session_minutes"],
            stats_s=1.0,
            fail_at_s=120.0,
            end_s=600.0,
        )
        places = case.nodes * case.replicas_a_node * case.places
        found[f"{spare} spare"] = {"nodes": case.nodes, "load": x["sessions"] / places, **Live(case).run()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", type=Path, metavar="AVATAR", help="measure with this avatar, and do no more")
    parser.add_argument("--subject", type=Path, help="its prepared folder, for its size")
    add_options(parser)
    args = parser.parse_args()
    if args.measure is not None:
        measured = measure(args.measure, args.subject)
        print(measured)
        print(write("cluster_inputs", measured))
        return
    x, sources = read(vars(args))
    plan = limits(x)
    results = {
        "inputs": {name: {"value": x[name], "source": sources[name]} for name in x},
        "batch": {**work(x), "simulated": simulate_batch(x)},
        "live": {**plan, "node_lost": simulate_live(x, plan)},
    }
    for part in ("batch", "live"):
        for name, value in results[part].items():
            print(f"{part:5} {name:34} {value}")
    print(write("cluster_cost", results))


if __name__ == "__main__":
    main()
