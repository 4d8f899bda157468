"""Damage valid files in thousands of ways: each reader must end with valid values or one sentence.

``python -m tests.hostile.run --count 10000 --out /tmp/faults`` from the repository's root; ``--only`` names readers.
Each mutation is reproduced by its reader, seed and number. A fault is any other exception, an invalid value, more than
`CPU_S` of computing, more than `MEMORY` beyond what is there at the start, or an event of code that runs.
"""

import argparse
import json
import logging
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from emotalking.errors import InputError

from .readers import Reader, make_readers

CPU_S = 20
"""Seconds of computing for one file; an ordinary one takes some milliseconds."""
MEMORY = 1 << 30
"""Bytes of address space for all readers together."""
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect",
             "socket.getaddrinfo", "pickle.find_class", "shutil.rmtree", "ctypes.dlopen")  # fmt: skip
_events: list[str] = []


class TooLong(BaseException):
    """Raised by the timer; no reader catches it."""


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event in FORBIDDEN and not (event == "pickle.find_class" and "emotalking" in str(arguments[:1])):
        _events.append(f"{event} {str(arguments)[:100]}")


def _stop(_: int, __: FrameType | None) -> None:
    raise TooLong


def outcome(reader: Reader, data: bytes) -> str:
    """`read`, `refused`, or a fault in one line."""
    reader.path.write_bytes(data)
    _events.clear()
    signal.setitimer(signal.ITIMER_PROF, CPU_S)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader.read(reader.path)
        result = "read"
    except InputError as error:
        result = "refused"
        chain: BaseException | None = error
        while chain is not None:
            if isinstance(chain, MemoryError) or "not enough memory" in str(chain) or "allocate" in str(chain):
                result = f"memory: {type(chain).__name__} {_where(chain)}"
            chain = chain.__cause__ or chain.__context__
        if "\n" in str(error) or len(str(error)) > 1000:
            result = f"no sentence: {str(error)[:200]!r}"
    except TooLong as error:
        result = f"more than {CPU_S} s: {_where(error)}"
    except BaseException as error:
        result = f"{type(error).__name__}: {str(error)[:150]!r} {_where(error)}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return f"event: {_events[0]}" if _events else result


def _where(error: BaseException) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "emotalking" in f.filename]
    last = frames[-1] if frames else None
    return "" if last is None else f"at {Path(last.filename).name}:{last.lineno}"


def attack(name: str, reader: Reader, count: int, seed: int, out: Path | None) -> tuple[Counter[str], Counter[str]]:
    """Outcomes of ``count`` mutations: read and refused, and faults by their line."""
    whole = reader.path.read_bytes()
    outcomes, faults = Counter[str](), Counter[str]()
    assert outcome(reader, whole) == "read", f"{name}: the valid file: {outcome(reader, whole)}"
    for number in range(count):
        rng = random.Random(f"{name} {seed} {number}")
        data = rng.choice(reader.mutations)(whole, rng)
        if rng.random() < 0.2:
            data = rng.choice(reader.mutations[:1])(data, rng)
        result = outcome(reader, data)
        if result in ("read", "refused"):
            outcomes[result] += 1
            continue
        faults[result] += 1
        if out is not None and faults[result] == 1:
            (out / f"{name.replace(' ', '_').replace('/', '_')}_{seed}_{number}").write_bytes(data)
    reader.path.write_bytes(whole)
    assert outcome(reader, whole) == "read"
    return outcomes, faults


def main() -> int:
    """Attack the readers; exit code 1 if there is a fault."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=25, help="mutations of each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", help="names of readers")
    parser.add_argument("--out", type=Path, help="folder for files that are faults")
    args = parser.parse_args()
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        readers = make_readers(Path(folder))
        chosen = {name: readers[name] for name in args.only or readers}
        for reader in chosen.values():  # everything is imported and warm before memory is limited
            reader.read(reader.path)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))
        signal.signal(signal.SIGPROF, _stop)
        sys.addaudithook(_watch)
        for name, reader in chosen.items():
            began = time.process_time()
            outcomes, faults = attack(name, reader, args.count, args.seed, args.out)
            report[name] = {**outcomes, "seconds": round(time.process_time() - began, 1), "faults": dict(faults)}
            print(json.dumps({name: report[name]}, ensure_ascii=True), flush=True)
    return 1 if any(one["faults"] for one in report.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
