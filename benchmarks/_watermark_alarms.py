"""False alarms of the invisible mark, by measurement: many keys in clips that are not marked with them.

A search reports a mark where ``exponent``, the logarithm of one over the bound of the probability of a false alarm,
reaches :data:`ALARM_EXPONENT`. Were the bound exact, exponents would be exponentially distributed with a mean of 1.

In parts of images alarms are too rare to be counted. Keys are therefore drawn whose known lines fit a random place of
the search as well as an alarm asks for, each counted by how much more often they are drawn than among all keys
(importance sampling: the mean of the counts is the probability of an alarm, without any model of its tail).
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _watermark_clips import LENGTH, Workers, in_video, rate, read, shown
from scipy import special, stats

from emotalking.provenance.correlation import Spectrum, deviations_of, indices, known_lines, turn
from emotalking.provenance.detect import (
    ALARM,
    SHIFTS,
    exponent,
    hypotheses,
    part_places,
    part_positions,
    search,
    search_lines,
    spectra_of,
    whole_places,
)
from emotalking.provenance.evidence import Evidence, grey_levels, of_image
from emotalking.provenance.mark import Mark
from emotalking.provenance.pattern import KEY, Lines, lines
from emotalking.provenance.payload import Payload

ALARM_EXPONENT = float(-np.log(ALARM))
ALLOWED = 1e-5
TAIL = 0.05
"""Share of the largest exponents to which the tail is fitted."""
KEYS_OF_WHOLE, KEYS_AT_ONCE = 48_000, 1_000
AT = (0, 40, 90)
"""Frames that are taken as images alone, where a file has so many."""
Shot = tuple[Path, bool, int | None]
"""A file, whether it is marked with another key, and which of its frames is searched alone; None: 2 s."""


def false_alarms(shots: list[Shot], keys: int, drawn: int, limit: float, workers: Workers) -> dict[str, Any]:
    """Exponents of searches of images without the mark that is looked for.

    Args:
        shots: of real recordings and renderings.
        keys: that are searched as ``verify`` does, besides the public one, in each.
        drawn: keys that are drawn towards an alarm in parts, in each.
        limit: seconds after which no further shot is begun.
    """
    jobs = [(shot, number, keys, drawn) for number, shot in enumerate(shots)]
    done = []
    for (shot, *_), found in workers.until(time.monotonic() + limit, _one_shot, jobs):
        done.append((shot, *found))
        print(*shot, *(f"{one.max():.3g}" for one in found if len(one)), flush=True)
    ready, searched, whole, parts = zip(*done, strict=True)
    results: dict[str, Any] = {
        "shots": len(ready),
        "files": len({path for path, _, _ in ready}),
        "alarm_exponent": ALARM_EXPONENT,
        "searched_as_verify_does": _tail(np.concatenate(searched)),
        "places_of_whole_images": _tail(np.concatenate(whole)),
    }
    if drawn:
        results["parts_by_importance_sampling"] = _mean(np.stack(parts))
    print(results, flush=True)
    return results


def _one_shot(job: tuple[Shot, int, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Exponents of searches and of whole places, and what keys drawn towards an alarm count."""
    shot, seed, keys, drawn = job
    evidence, rng = _evidence(shot), np.random.default_rng(seed)
    return searches(evidence, keys), whole_exponents(evidence, rng), part_counts(evidence, drawn, rng)


def stills(files: list[Path]) -> list[Shot]:
    """Some frames of each file, less those without content, which are not searched."""
    found = []
    for path in files:
        frames = read(path, max(AT) + 1)
        found += [(path, False, at) for at in AT if at < len(frames) and frames[at].std() > 1]
    return found


def _tail(exponents: np.ndarray) -> dict[str, Any]:
    """How many exponents are how large, and the probability of an alarm by the exponential tail of the largest."""
    begin = float(np.quantile(exponents, 1 - TAIL))
    beyond = exponents[exponents > begin] - begin
    fitted: dict[str, Any] = {}
    if len(beyond) >= 5:
        # The mean of n exponential variables: 2 n mean / scale is of a chi-square distribution.
        scales = [2 * beyond.sum() / stats.chi2.ppf(share, 2 * len(beyond)) for share in (0.5, 0.05)]
        share = len(beyond) / len(exponents)
        chance, most = (float(share * np.exp(-(ALARM_EXPONENT - begin) / scale)) for scale in scales)
        fitted = {"scale": float(beyond.mean()), "alarm_probability": chance, "below_with_95_percent": most}
    alarms = int((exponents >= ALARM_EXPONENT).sum())
    return {
        "alarms": rate(exponents >= ALARM_EXPONENT),
        "alarm_probability_below_with_95_percent": float(stats.beta.ppf(0.95, alarms + 1, len(exponents) - alarms)),
        "quantiles_50_90_99_100": np.quantile(exponents, [0.5, 0.9, 0.99, 1]).round(2).tolist(),
        "tail": fitted,
        "allowed": ALLOWED,
    }


def _evidence(shot: Shot) -> Evidence:
    path, marked, at = shot
    frames = read(path, LENGTH if at is None else at + 1)
    mark = Mark(Payload(99), b"of somebody else")
    if at is not None:
        return of_image(grey_levels(mark.array(frames[at]) if marked else frames[at]))
    return shown(in_video(mark, frames) if marked else frames)


def searches(evidence: Evidence, keys: int) -> np.ndarray:
    """Exponents of the public key and others."""
    names = [KEY, *(b"other %d" % number for number in range(1, keys + 1))]
    found = [search(evidence, name) for name in names]
    return np.array([0.0 if one is None else -np.log(one.false_alarm) for one in found])


def whole_exponents(evidence: Evidence, rng: np.random.Generator) -> np.ndarray:
    """Exponents of :data:`KEYS_OF_WHOLE` random keys at the places of whole images, in change and sum."""
    found = []
    places = whole_places(*evidence.steady.shape[1:])
    fields = []
    for spectrum in spectra_of(evidence):
        for place in places:
            turned, _, frequencies = known_lines(spectrum, lines(), place)
            mixed = spectrum.mixtures @ turned * turn(frequencies, place)
            scaled = mixed / deviations_of(spectrum, turned)[:, None]
            fields.append((scaled.astype(np.complex64), hypotheses(spectrum, len(places), whole=True)))
    for _ in range(0, KEYS_OF_WHOLE, KEYS_AT_ONCE):
        angles = rng.random((KEYS_AT_ONCE, lines().sync.shape[0] + lines().still.shape[0]), np.float32)
        phases = np.exp(np.complex64(2j * np.pi) * angles)
        each = [_exponents(np.real(phases[:, : one.shape[1]] @ one.T).max(1), many) for one, many in fields]
        found.append(np.max(each, axis=0))
    return np.concatenate(found)


def _exponents(z: np.ndarray, tests: int) -> np.ndarray:
    return np.array([exponent(float(one)) for one in z]) - np.log(tests)


def part_counts(evidence: Evidence, keys: int, rng: np.random.Generator) -> np.ndarray:
    """What each drawn key counts: nothing without an alarm."""
    fields = [_Field(one, max(evidence.steady.shape[1:])) for one in spectra_of(evidence)] if keys else []
    counts = np.zeros(keys)
    for number in range(keys):
        turns = fields[rng.integers(len(fields))].drawn(rng)
        if search_lines(evidence, _turned(turns, rng)).marked:
            odds = [field.log_odds(turns) for field in fields]
            counts[number] = np.exp(np.log(len(fields)) - np.logaddexp.reduce(odds))
    return counts


def _turned(turns: np.ndarray, rng: np.random.Generator) -> Lines:
    """Lines of a key whose known values are those of the public one, turned."""
    chosen = lines()
    sync, still = np.split(turns.conj(), [len(chosen.sync)])
    return replace(
        chosen,
        sync_phases=chosen.sync_phases * sync,
        still_phases=chosen.still_phases * still,
        data_phases=np.exp(2j * np.pi * rng.random(len(chosen.data))),
    )


def _mean(counts: np.ndarray) -> dict[str, Any]:
    """The probability of an alarm by counts of keys ([shots, keys]), and its standard error."""
    error = np.sqrt((counts.var(1, ddof=1) / counts.shape[1]).sum()) / len(counts)
    return {
        "keys": counts.size,
        "keys_with_alarm": int((counts > 0).sum()),
        "alarm_probability": float(counts.mean()),
        "standard_error": float(error),
        "largest_of_a_shot": float(counts.mean(1).max()),
        "allowed": ALLOWED,
    }


class _Field:
    """Values of the known lines of one spectrum at all places of parts."""

    def __init__(self, spectrum: Spectrum, longest: int) -> None:
        chosen, self._mixtures = lines(), spectrum.mixtures
        self._count = len(chosen.sync) + len(chosen.still)
        tests = np.log(hypotheses(spectrum, part_positions(longest)))
        self._level = next(float(z) for z in np.arange(1, 40, 0.01) if exponent(z) - tests > ALARM_EXPONENT)
        """Deviations of an alarm."""
        self._groups = []
        places = part_places(longest)
        for some in (places[::2], places[1::2]):  # plain and mirrored
            known = [known_lines(spectrum, chosen, one) for one in some]
            values = np.stack([one for one, _, _ in known])
            deviations = np.stack([deviations_of(spectrum, one) for one, _, _ in known])
            pulls = np.abs(self._mixtures @ values) * (self._level / deviations)[..., None]
            normal = np.log(special.i0e(pulls)).sum(-1) + pulls.sum(-1)
            self._groups.append((values, deviations, normal, indices(known[0][1], some[0])))

    def drawn(self, rng: np.random.Generator) -> np.ndarray:
        """Factors of a key's known lines that fit a random place: phases by von Mises around those that fit best."""
        values, deviations, _, (x, y) = self._groups[rng.integers(len(self._groups))]
        place, mixture = rng.integers(len(values)), rng.integers(len(self._mixtures))
        row, column = rng.integers(SHIFTS, size=2)
        mixed = self._mixtures[mixture] @ values[place] * np.exp(2j * np.pi * (x * column + y * row) / SHIFTS)
        angles = rng.vonmises(0.0, np.abs(mixed) * self._level / deviations[place, mixture]) - np.angle(mixed)
        free = rng.uniform(0, 2 * np.pi, self._count - len(angles))
        return np.exp(1j * np.concatenate([angles, free]))

    def log_odds(self, turns: np.ndarray) -> float:
        """Logarithm of how many times as often these factors are drawn as among all keys."""
        odds, count = [], 0
        for values, deviations, normal, (x, y) in self._groups:
            maps = torch.from_numpy(values * turns[: values.shape[-1]]).to(torch.complex64)
            grid = torch.zeros(*maps.shape[:2], SHIFTS, SHIFTS, dtype=torch.complex64)
            grid[..., y % SHIFTS, x % SHIFTS] = maps / 2
            grid[..., -y % SHIFTS, -x % SHIFTS] = maps.conj() / 2
            maps = torch.fft.ifft2(grid, norm="forward").real.flatten(2)
            for number, mixture in enumerate(self._mixtures):
                mixed = torch.einsum("pds,d->ps", maps, torch.from_numpy(mixture).to(maps))
                scale, less = (
                    torch.from_numpy(one[:, number]).to(maps)[:, None] for one in (self._level / deviations, normal)
                )
                odds.append(float((mixed * scale - less).logsumexp((0, 1))))
                count += mixed.numel()
        return float(np.logaddexp.reduce(odds)) - np.log(count)
