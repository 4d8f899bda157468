"""False alarms of the invisible mark, by measurement: many keys in clips that are not marked with them.

A search reports a mark where ``exponent``, the logarithm of one over the bound of the probability of a false alarm,
reaches :data:`ALARM_EXPONENT`. Were the bound exact, exponents would be exponentially distributed with a mean of 1.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from _watermark_clips import LENGTH, Workers, in_video, rate, read, shown
from scipy import stats

from emotalking.provenance import detect
from emotalking.provenance.correlation import Spectrum, deviations_of, indices, known_lines, turn
from emotalking.provenance.detect import ALARM, exponent
from emotalking.provenance.evidence import Evidence, grey_levels, of_image
from emotalking.provenance.mark import Mark
from emotalking.provenance.pattern import KEY, lines
from emotalking.provenance.payload import Payload

ALARM_EXPONENT = float(-np.log(ALARM))
ALLOWED = 1e-5
TAIL = 0.05
"""Share of the largest exponents to which the tail is fitted."""
KEYS_A_JOB = 10
KEYS_OF_WHOLE, KEYS_AT_ONCE = 24_000, 1_000
AT = (0, 40, 90)
"""Frames that are taken as images alone, where a file has so many."""
Shot = tuple[Path, bool, int | None]
"""A file, whether it is marked with another key, and which of its frames is searched alone; None: 2 s."""


def false_alarms(shots: list[Shot], keys: int, drawn: int, workers: Workers, device: str) -> dict[str, Any]:
    """Exponents of searches of images without the mark that is looked for.

    Args:
        shots: of real recordings and renderings.
        keys: that are searched as ``verify`` does, besides the public one, in each.
        drawn: random keys of which the strongest place of the coarse search is taken in each, on ``device``.
    """
    jobs = [
        (shot, first, min(first + KEYS_A_JOB, keys + 1)) for shot in shots for first in range(0, keys + 1, KEYS_A_JOB)
    ]
    results: dict[str, Any] = {
        "shots": len(shots),
        "files": len({path for path, _, _ in shots}),
        "alarm_exponent": ALARM_EXPONENT,
        "searched_as_verify_does": _tail(np.concatenate(list(workers.map(_searches, jobs)))),
    }
    print(results, flush=True)
    whole = workers.map(whole_places, list(enumerate(shots)))
    results["places_of_whole_images"] = _tail(np.concatenate(list(whole)))
    print(results["places_of_whole_images"], flush=True)
    if drawn:
        found = [strongest(_evidence(shot), drawn, number, device) for number, shot in enumerate(shots)]
        results["coarse_searches_of_drawn_keys"] = _tail(np.concatenate(found))
        print(results["coarse_searches_of_drawn_keys"], flush=True)
    return results


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


def _searches(job: tuple[Shot, int, int]) -> np.ndarray:
    """Exponents of some keys in a shot; the first key is the public one."""
    shot, first, last = job
    evidence = _evidence(shot)
    names = [KEY if number == 0 else b"other %d" % number for number in range(first, last)]
    found = [detect.search(evidence, name) for name in names]
    return np.array([0.0 if one is None else -np.log(one.false_alarm) for one in found])


def whole_places(job: tuple[int, Shot]) -> np.ndarray:
    """Exponents of :data:`KEYS_OF_WHOLE` random keys in a shot at the places of whole images, in its change and sum."""
    seed, shot = job
    evidence, rng, found = _evidence(shot), np.random.default_rng(seed), []
    places = detect._whole(*evidence.steady.shape[1:])
    fields = []
    for spectrum in detect._spectra(evidence):
        for place in places:
            turned, _, frequencies = known_lines(spectrum, lines(), place)
            mixed = spectrum.mixtures @ turned * turn(frequencies, place)
            scaled = mixed / deviations_of(spectrum, turned)[:, None]
            fields.append((scaled.astype(np.complex64), _hypotheses(spectrum, len(places), whole=True)))
    for _ in range(0, KEYS_OF_WHOLE, KEYS_AT_ONCE):
        angles = rng.random((KEYS_AT_ONCE, lines().sync.shape[0] + lines().still.shape[0]), np.float32)
        phases = np.exp(np.complex64(2j * np.pi) * angles)
        each = [_exponents(np.real(phases[:, : one.shape[1]] @ one.T).max(1), many) for one, many in fields]
        found.append(np.max(each, axis=0))
    return np.concatenate(found)


def _hypotheses(spectrum: Spectrum, positions: int, *, whole: bool) -> int:
    families = detect._FRAMES if whole and not spectrum.changes else detect._FAMILIES
    return families * positions * len(spectrum.mixtures)


def _exponents(z: np.ndarray, hypotheses: int) -> np.ndarray:
    return np.array([exponent(float(one)) for one in z]) - np.log(hypotheses)


def strongest(evidence: Evidence, keys: int, seed: int, device: str) -> np.ndarray:
    """Exponents of random keys in the coarse search of parts, in change and sum."""
    size = evidence.steady.shape[1:]
    fields = [_Field(one, max(size), device) for one in detect._spectra(evidence)]
    random = torch.Generator().manual_seed(seed)
    count = len(lines().sync) + len(lines().still)
    turns = [torch.polar(torch.ones(count), 2 * torch.pi * torch.rand(count, generator=random)) for _ in range(keys)]
    return np.max([field.exponents([one.to(device) for one in turns]) for field in fields], axis=0)


class _Field:
    """Values of the known lines of one spectrum at all scales, where any key can be correlated."""

    def __init__(self, spectrum: Spectrum, longest: int, device: str) -> None:
        self._mixtures = torch.from_numpy(spectrum.mixtures.astype(np.float32)).to(device)
        self._hypotheses = _hypotheses(spectrum, detect._positions(longest), whole=False)
        self._groups = []
        places = detect._coarse_places(longest)
        for some in (places[::2], places[1::2]):  # plain and mirrored
            known = [known_lines(spectrum, lines(), one) for one in some]
            x, y = indices(known[0][1], some[0])
            cells = [one % detect._SHIFTS for one in (x, y, -x, -y)]
            here, there = cells[1] * detect._SHIFTS + cells[0], cells[3] * detect._SHIFTS + cells[2]
            values = np.stack([one for one, _, _ in known]).astype(np.complex64)
            deviations = np.stack([deviations_of(spectrum, one) for one, _, _ in known]).astype(np.float32)
            self._groups.append([torch.from_numpy(one).to(device) for one in (values, deviations, here, there)])

    def exponents(self, keys: list[torch.Tensor]) -> np.ndarray:
        """The largest of each key, given by phases that turn those of the public one."""
        return _exponents(np.array([self._largest(one) for one in keys]), self._hypotheses)

    def _largest(self, turns: torch.Tensor) -> float:
        peaks = []
        for values, deviations, here, there in self._groups:
            turned = values * turns[: values.shape[-1]]
            parts = []
            for first, second in zip(turned.unbind(1)[::2], turned.unbind(1)[1::2], strict=True):
                grid = torch.zeros(len(values), detect._SHIFTS**2, dtype=torch.complex64, device=values.device)
                grid[:, here] = (first + 1j * second) / 2
                grid[:, there] = (first - 1j * second).conj() / 2
                both = torch.fft.ifft2(grid.unflatten(1, (detect._SHIFTS,) * 2), norm="forward")
                parts += [both.real, both.imag]
            stack = torch.stack(parts, -1)
            peaks += [
                ((stack @ mixture).amax((1, 2)) / deviations[:, number]).amax()
                for number, mixture in enumerate(self._mixtures)
            ]
        return float(torch.stack(peaks).amax())
