"""Discrete-event simulations of cluster_cost.py: a queue of jobs on nodes that fail, and live sessions on replicas."""

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any


class Events:
    """Calls in the order of their times."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def at(self, delay: float, call: Callable[[], None]) -> None:
        """Have ``call`` made after ``delay`` seconds."""
        heapq.heappush(self._heap, (self.now + delay, next(self._count), call))

    def run(self, until: float = float("inf"), wanted: Callable[[], bool] = lambda: True) -> None:
        """Make the calls, as long as they are wanted."""
        while self._heap and self._heap[0][0] <= until and wanted():
            self.now, _, call = heapq.heappop(self._heap)
            call()


def batch(jobs: list[float], nodes: int, gpus: int, node_mtbf_s: float, repair_s: float, seed: int) -> dict[str, float]:
    """Jobs of so many seconds, in this order, one a GPU; a node that fails loses those it runs, which begin anew.

    Returns:
        Hours until all are done, GPU hours of work that was lost, and failures.
    """
    events, rng = Events(), random.Random(seed)
    waiting = list(reversed(jobs))
    running: list[dict[int, tuple[float, float]]] = [{} for _ in range(nodes)]
    free = [gpus] * nodes
    up = [True] * nodes
    ids = itertools.count()
    left = len(jobs)
    lost = done_at = 0.0
    failures = 0

    def fill(node: int) -> None:
        while up[node] and free[node] and waiting:
            number, seconds = next(ids), waiting.pop()
            free[node] -= 1
            running[node][number] = events.now, seconds
            events.at(seconds, partial(finish, node, number))

    def finish(node: int, number: int) -> None:
        nonlocal left, done_at
        if running[node].pop(number, None) is None:
            return  # it was lost
        free[node] += 1
        left -= 1
        done_at = events.now
        fill(node)

    def fail(node: int) -> None:
        nonlocal lost, failures
        if not left:
            return
        failures += 1
        up[node] = False
        for began, seconds in running[node].values():
            lost += events.now - began
            waiting.append(seconds)
        running[node].clear()
        free[node] = gpus
        events.at(repair_s, partial(repair, node))
        for other in range(nodes):
            fill(other)

    def repair(node: int) -> None:
        up[node] = True
        fill(node)
        events.at(rng.expovariate(1 / node_mtbf_s), partial(fail, node))

    for node in range(nodes):
        events.at(rng.expovariate(1 / node_mtbf_s), partial(fail, node))
        fill(node)
    events.run(wanted=lambda: left > 0)
    return {"hours": done_at / 3600, "gpu_hours_lost": lost / 3600, "failures": failures}


@dataclass
class Replica:
    """A live server: its sessions, and the free places that the front knows of."""

    node: int
    places: int
    sessions: set[int] = field(default_factory=set)
    reported: int = 0
    up: bool = True


@dataclass(frozen=True)
class LiveCase:
    """What `live` simulates; times in seconds."""

    nodes: int
    replicas_a_node: int
    places: int
    sessions: float
    session_s: float
    stats_s: float
    fail_at_s: float
    end_s: float
    seed: int = 0


class Live:
    """Sessions that come and go, the front's choice by reports of a second ago, and a node that is lost for good."""

    def __init__(self, case: LiveCase) -> None:
        self.case, self.events, self.rng = case, Events(), random.Random(case.seed)
        self.replicas = [Replica(node, case.places) for node in range(case.nodes) for _ in range(case.replicas_a_node)]
        self.ids = itertools.count()
        self.where: dict[int, Replica] = {}
        self.asked = self.refused = self.retried = self.broken = 0
        self.busiest_s = 0
        self.asks: dict[int, int] = {}
        self.returned: list[float] = []

    def run(self) -> dict[str, Any]:
        """Simulate; the sessions are there from the beginning."""
        case = self.case
        self._report()
        for _ in range(round(case.sessions)):
            self._ask(self._draw(), 0.0, 0)
            if not next(self.ids) % 64:
                self._report(again=False)
        self.asked = self.refused = self.retried = 0
        self.asks.clear()
        self._arrive()
        self.events.at(case.fail_at_s, self._fail)
        self.events.run(case.end_s)
        took = sorted(self.returned)
        return {
            "asked": self.asked,
            "retried": self.retried,
            "refused": self.refused,
            "refused_share": self.refused / max(1, self.asked),
            "most_asks_a_second": max(self.asks.values()),
            "broken": self.broken,
            "elsewhere": len(took),
            "elsewhere_s": {"median": took[len(took) // 2], "last": took[-1]} if took else None,
            "fullest": max(len(one.sessions) / one.places for one in self.replicas if one.up),
        }

    def _draw(self) -> float:
        return self.rng.expovariate(1 / self.case.session_s)

    def _report(self, again: bool = True) -> None:
        for one in self.replicas:
            one.reported = one.places - len(one.sessions) if one.up else one.reported
        if again:
            self.events.at(self.case.stats_s, self._report)

    def _arrive(self) -> None:
        self._ask(self._draw(), 0.0, 0)
        self.events.at(self.rng.expovariate(self.case.sessions / self.case.session_s), self._arrive)

    def _ask(self, seconds: float, since: float, tries: int) -> None:
        """Ask the front for a place, as `by_free_places` chooses; without one three times more, then never again."""
        second = int(self.events.now)
        self.asks[second] = self.asks.get(second, 0) + 1
        self.asked += not tries
        able = [one for one in self.rng.sample(self.replicas, min(8, len(self.replicas))) if one.reported > 0]
        if len(able) < 2:
            able = [one for one in self.replicas if one.reported > 0]
        able = [one for one in able if one.up]  # the front notices by its question that nobody answers
        chosen = max(self.rng.sample(able, min(2, len(able))), key=lambda one: one.reported, default=None)
        if chosen is None or len(chosen.sessions) >= chosen.places:
            self.retried += 1
            if tries == 3:
                self.refused += 1
                return
            self.events.at(0.5 * 2**tries * self.rng.uniform(0.8, 1.2), lambda: self._ask(seconds, since, tries + 1))
            return
        number = next(self.ids)
        chosen.sessions.add(number)
        self.where[number] = chosen
        if since:
            self.returned.append(self.events.now - since)
        self.events.at(seconds, lambda: self._leave(number))

    def _leave(self, number: int) -> None:
        if (replica := self.where.pop(number, None)) is not None:
            replica.sessions.discard(number)

    def _fail(self) -> None:
        """Node 0 is silent from now on; clients notice by its silence of 8 s and two attempts, as the page does."""
        since = self.events.now
        for one in self.replicas:
            if one.node:
                continue
            one.up = False
            for number in one.sessions:
                self.broken += 1
                self.where.pop(number)
                wait = 8.0 + self.rng.uniform(0.0, 2.0) + 1.5 + self.rng.uniform(0.0, 3.0)
                self.events.at(wait, lambda: self._ask(self._draw(), since, 0))
            one.sessions.clear()
