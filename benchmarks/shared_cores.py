"""What do threads of torch cost where other programs use the cores, and what does waiting asleep cost where none does?

python benchmarks/shared_cores.py [--cores 2] [--busy 0,2,8] [--name shared_cores] [--out FOLDER]

A small network trains (six thousand points through three layers: many short parallel loops, as in a stage of 'train')
on so many cores, beside so many endless loops. Each row is a process of its own: threads, OpenMP's waiting, seconds by
the clock and of processor time for 100 steps, the median of three runs. "active" is the default of libgomp, which torch
brings: threads spin at the end of every parallel loop, and when the scheduler has taken the core from the one they wait
for, they spin through its whole absence.
"""

import json
import os
import statistics
import subprocess
import sys

from _report import arguments, write

WAITING = {
    "active": {},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "spins 1000 times": {"GOMP_SPINCOUNT": "1000"},
}
STEPS, REPEATS = 100, 3
PROGRAM = f"""
import json, time, torch
torch.manual_seed(0)
relu, linear = torch.nn.ReLU, torch.nn.Linear
network = torch.nn.Sequential(linear(32, 64), relu(), linear(64, 64), relu(), linear(64, 10))
optimizer, points = torch.optim.AdamW(network.parameters()), torch.randn(6000, 32)
def run(steps):
    for _ in range(steps):
        optimizer.zero_grad()
        network(points).square().mean().backward()
        optimizer.step()
run(3)
wall, processor = time.perf_counter(), time.process_time()
run({STEPS})
print(json.dumps([time.perf_counter() - wall, time.process_time() - processor]))
"""


def timed(threads: int, waiting: dict[str, str]) -> tuple[float, float]:
    """Seconds by the clock and of processor time."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    output = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment | {"OMP_NUM_THREADS": str(threads)} | waiting,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    wall, processor = json.loads(output)
    return wall, processor


def main() -> None:
    """Measure and write the report."""
    args = arguments(__doc__)
    cores = sorted(os.sched_getaffinity(0))[: args.cores]
    os.sched_setaffinity(0, cores)  # of this process and those that it starts
    rows = []
    for busy in map(int, args.busy.split(",")):
        loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
        try:
            for threads, waiting in ((1, "active"), *((len(cores), name) for name in WAITING)):
                runs = [timed(threads, WAITING[waiting]) for _ in range(REPEATS)]
                wall, processor = (statistics.median(column) for column in zip(*runs, strict=True))
                rows.append(
                    {"busy": busy, "threads": threads, "waiting": waiting, "wall_s": wall, "processor_s": processor}
                )
                print(rows[-1], flush=True)
        finally:
            for loop in loops:
                loop.kill()
    print(write(args.name, {"cores": len(cores), "steps": STEPS, "rows": rows}, args.out))


if __name__ == "__main__":
    main()
