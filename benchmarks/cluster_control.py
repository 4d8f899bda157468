"""What Ray Serve's one controller and its front bear: processor time by the number of replicas, and places a second.

python benchmarks/cluster_control.py [--replicas 4 16 ...] [--seconds 30.0]

Replicas here do what those of emotalking.serve.cluster do towards Ray Serve (health every 5 s, free places every second
or ten, the same choice of a replica) and have no heads. The controller is one process: with so much of a core for each
replica, it can look after so many. Processor times are Linux's. Needs emotalking[serve-cluster].
"""

import os
import threading
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import ray
from _report import arguments, write
from ray import serve
from ray.serve.config import RequestRouterConfig

PORT = 8793


class Light:
    """A replica without heads."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> dict[str, str]:
        self.asked += 1
        return {"address": "ws://127.0.0.1:8100/"}

    def check_health(self) -> None:
        pass

    def record_routing_stats(self) -> dict[str, int]:
        return {"free": 1 + self.asked % 7}  # a new figure each time, as where sessions come and go


def controller_s() -> float:
    """Processor seconds of the controller so far."""
    (folder,) = [file.parent for file in Path("/proc").glob("[0-9]*/cmdline") if "ServeController" in _text(file)]
    user, system = _text(folder / "stat").rpartition(") ")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # of a process that has ended
        return ""


def deploy(count: int, stats_s: float) -> None:
    """Run so many replicas."""
    router = RequestRouterConfig(
        request_router_class="emotalking.serve.cluster:MostPlaces", request_routing_stats_period_s=stats_s
    )
    light = serve.deployment(Light).options(
        num_replicas=count,
        ray_actor_options={"num_cpus": 0},
        health_check_period_s=5.0,
        request_router_config=router,
        graceful_shutdown_wait_loop_s=0.1,
    )
    serve.run(light.bind())


def places_a_second(seconds: float, clients: int = 4) -> float:
    """Answers of the front to clients that ask again and again."""
    until = time.monotonic() + seconds
    counts = [0] * clients

    def ask(which: int) -> None:
        while time.monotonic() < until:
            urlopen(f"http://127.0.0.1:{PORT}/", timeout=60).read()
            counts[which] += 1

    threads = [threading.Thread(target=ask, args=(which,)) for which in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


def main() -> None:
    args = arguments(__doc__)
    ray.init("local", num_cpus=4, include_dashboard=False, logging_level="ERROR", object_store_memory=100 << 20)
    serve.start(http_options={"port": PORT})
    rows: list[dict[str, Any]] = []
    for stats_s in (1.0, 10.0):
        for count in args.replicas:
            deploy(count, stats_s)
            time.sleep(5.0)
            before = controller_s()
            time.sleep(args.seconds)
            rows.append(
                {"replicas": count, "stats_s": stats_s, "controller_share": (controller_s() - before) / args.seconds}
            )
            print(rows[-1], flush=True)
    few, many = rows[0], rows[1]
    each = (many["controller_share"] - few["controller_share"]) / (many["replicas"] - few["replicas"])
    results = {
        "rows": rows,
        "controller_ms_a_replica": 1e3 * each,
        "controller_ms_alone": 1e3 * (few["controller_share"] - each * few["replicas"]),
        "places_a_second": places_a_second(10.0),
    }
    print(results)
    print(write("cluster_control", results))
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
