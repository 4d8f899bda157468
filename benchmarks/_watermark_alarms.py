"""False alarms of the invisible mark, by measurement: many keys in clips that are not marked with them.

A search reports a mark where ``exponent``, the logarithm of one over the bound of the probability of a false alarm,
reaches :data:`ALARM_EXPONENT`. Were the bound exact, exponents would be exponentially distributed with a mean of 1.
"""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _watermark_clips import LENGTH, Frames, Workers, in_video, rate, read, shown
from scipy import stats

from emotalking.provenance import detect
from emotalking.provenance.detect import ALARM, Geometry
from emotalking.provenance.evidence import Evidence
from emotalking.provenance.mark import Mark
from emotalking.provenance.pattern import KEY, SYNC_SHARE, lines
from emotalking.provenance.payload import Payload

ALARM_EXPONENT = float(-np.log(ALARM))
ALLOWED = 1e-5
TAIL = 0.05
"""Share of the largest exponents to which the tail is fitted."""
KEYS_A_JOB = 10
KEYS_OF_WHOLE, KEYS_AT_ONCE = 24_000, 1_000


def false_alarms(clips: list[Path], keys: int, drawn: int, workers: Workers, device: str) -> dict[str, Any]:
    """Exponents of searches of clips without the mark that is looked for.

    Args:
        clips: real recordings and renderings, each taken plain and marked with another key.
        keys: that are searched as ``verify`` does, besides the public one, in each.
        drawn: random keys of which the strongest place of the coarse search is taken in each, on ``device``.
    """
    jobs = [
        (clip, marked, first, min(first + KEYS_A_JOB, keys + 1))
        for clip, marked in product(clips, (False, True))
        for first in range(0, keys + 1, KEYS_A_JOB)
    ]
    searched = np.concatenate(list(workers.map(_searches, jobs)))
    results: dict[str, Any] = {
        "clips": len(clips),
        "alarm_exponent": ALARM_EXPONENT,
        "searched_as_verify_does": _tail(searched[:, 0]),
        "known_lines_in_their_coarse_search": _tail(searched[:, 1]),
    }
    whole = workers.map(whole_places, [(clip, marked) for clip, marked in product(clips, (False, True))])
    results["places_of_whole_images"] = _tail(np.concatenate(list(whole)))
    print(results, flush=True)
    if drawn:
        found = [
            strongest(shown(_frames(clip, marked)), drawn, 2 * number + marked, device)
            for (number, clip), marked in product(enumerate(clips), (False, True))
        ]
        results["coarse_searches_of_drawn_keys"] = _tail(np.concatenate(found))
        print(results["coarse_searches_of_drawn_keys"], flush=True)
    return results


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
    return {
        "alarms": rate(exponents >= ALARM_EXPONENT),
        "alarm_probability_below_with_95_percent": float(1 - 0.05 ** (1 / len(exponents))),
        "quantiles_50_90_99_100": np.quantile(exponents, [0.5, 0.9, 0.99, 1]).round(2).tolist(),
        "tail": fitted,
        "allowed": ALLOWED,
    }


def _frames(clip: Path, marked: bool) -> Frames:
    frames = read(clip, LENGTH)
    return in_video(Mark(Payload(99), b"of somebody else"), frames) if marked else frames


def _searches(job: tuple[Path, bool, int, int]) -> np.ndarray:
    """Exponents of some keys in a clip, and those of their coarse searches; the first key is the public one."""
    clip, marked, first, last = job
    evidence = shown(_frames(clip, marked))
    names = (KEY if number == 0 else b"other %d" % number for number in range(first, last))
    return np.array([_exponents(evidence, name) for name in names])


def _exponents(evidence: Evidence, key: bytes) -> tuple[float, float]:
    """Of the search, with payloads, and of its strongest correlation of known lines."""
    found = detect.search(evidence, key)
    assert found is not None
    chosen, size = lines(key), evidence.steady.shape[1:]
    known = []
    for spectrum in detect._spectra(evidence):
        places = detect._whole(*size)
        known.append(_exponent(max(detect._z(spectrum, chosen, one) for one in places), len(places), spectrum))
        candidates, positions = detect._coarse(spectrum, chosen, max(size))
        known.append(_exponent(detect._peak(spectrum, chosen, candidates[0], detect._SHIFTS)[0], positions, spectrum))
    return -float(np.log(found.false_alarm)), max(known)


def _exponent(z: float, positions: int, spectrum: detect._Spectrum) -> float:
    return z * abs(z) / 2 - float(np.log(detect._FAMILIES * positions * 2 * len(spectrum.mixtures)))


def whole_places(job: tuple[Path, bool]) -> np.ndarray:
    """Exponents of :data:`KEYS_OF_WHOLE` random keys in a clip at the places of whole images, in its change and sum."""
    evidence = shown(_frames(*job))
    rng, index = np.random.default_rng(len(str(job))), np.concatenate([lines().sync, lines().data])
    known = round(SYNC_SHARE * len(index))
    found = []
    for _ in range(0, KEYS_OF_WHOLE, KEYS_AT_ONCE):
        phases = np.exp(2j * np.pi * rng.random((KEYS_AT_ONCE, len(index))))
        phases[rng.random(phases.shape).argsort(1).argsort(1) >= known] = 0
        used = (phases != 0).astype(float)
        best = np.full(KEYS_AT_ONCE, -np.inf)
        for spectrum in detect._spectra(evidence):
            places = detect._whole(*evidence.steady.shape[1:])
            for place in places:
                values = detect._aligned(spectrum, index, np.ones(len(index), complex), place)
                mixed = spectrum.mixtures @ values
                z = np.abs(np.real(phases @ mixed.T)) / np.sqrt(used @ (np.abs(mixed) ** 2).T / 2)
                hypotheses = detect._FAMILIES * len(places) * 2 * len(mixed)
                best = np.maximum(best, z.max(1) ** 2 / 2 - np.log(hypotheses))
        found.append(best)
    return np.concatenate(found)


def strongest(evidence: Evidence, keys: int, seed: int, device: str) -> np.ndarray:
    """Exponents of random keys at the places of whole images and in the coarse search of parts."""
    size = evidence.steady.shape[1:]
    fields = [_Field(one, size, device) for one in detect._spectra(evidence)]
    random = torch.Generator().manual_seed(seed)
    count = fields[0].count
    known = round(SYNC_SHARE * count)
    found = []
    for _ in range(keys):
        turns = torch.polar(torch.ones(count), 2 * torch.pi * torch.rand(count, generator=random))
        turns[torch.rand(count, generator=random).argsort()[known:]] = 0
        found.append(torch.stack([field.exponent(turns.to(device)) for field in fields]).amax(0))
    return torch.stack(found).cpu().numpy()


class _Field:
    """Values of all lines of one spectrum in all geometries, where any key can be correlated."""

    def __init__(self, spectrum: detect._Spectrum, size: tuple[int, int], device: str) -> None:
        chosen = lines()
        index = np.concatenate([chosen.sync, chosen.data])
        self.count = len(index)
        self._mixtures = torch.from_numpy(spectrum.mixtures.astype(np.float32)).to(device)
        self._spectrum = spectrum
        places = detect._whole(*size)
        ones = np.ones(self.count, complex)
        whole = np.stack([detect._aligned(spectrum, index, ones, one) for one in places])
        self._whole = torch.from_numpy(whole.astype(np.complex64)).to(device)
        step = detect._scale_step(max(size))
        scales = np.arange(1 / detect.UNITS[1], 1 / detect.UNITS[0], step)
        self._groups = []
        for mirrored in (False, True):
            geometries = [Geometry(1 / scale, 1 / scale, mirrored=mirrored) for scale in scales]
            values = np.stack([detect._lines(spectrum, index, one)[0] for one in geometries]).astype(np.complex64)
            x, y = detect._indices(index, geometries[0])
            cells = [one % detect._SHIFTS for one in (x, y, -x, -y)]
            here, there = cells[1] * detect._SHIFTS + cells[0], cells[3] * detect._SHIFTS + cells[2]
            self._groups.append([torch.from_numpy(one).to(device) for one in (values, here, there)])
        self._sizes = len(places), 2 * len(scales) * detect._SHIFTS**2

    def exponent(self, turns: torch.Tensor) -> torch.Tensor:
        """The largest of a key, given by its phases, 0 where a line is not known."""
        z = (self._whole * turns.conj()).sum(-1).real @ self._mixtures.T / self._deviations(self._whole, turns)
        out = [_exponent_of(z.abs().amax(), self._sizes[0], self._spectrum)]
        peaks = []
        for values, here, there in self._groups:
            turned = values * turns.conj()
            parts = []
            for first in range(0, turned.shape[1], 2):
                one = turned[:, first]
                other = turned[:, first + 1] if first + 1 < turned.shape[1] else torch.zeros_like(one)
                grid = torch.zeros(len(values), detect._SHIFTS**2, dtype=torch.complex64, device=values.device)
                grid[:, here] = (one + 1j * other) / 2
                grid[:, there] = (one - 1j * other).conj() / 2
                both = torch.fft.ifft2(grid.unflatten(1, (detect._SHIFTS,) * 2), norm="forward")
                parts += [both.real, both.imag]
            stack, deviations = torch.stack(parts[: turned.shape[1]], -1), self._deviations(values, turns)
            for number, mixture in enumerate(self._mixtures):
                peaks.append(((stack @ mixture).abs().amax((1, 2)) / deviations[:, number]).amax())
        return torch.stack([*out, _exponent_of(torch.stack(peaks).amax(), self._sizes[1], self._spectrum)]).amax()

    def _deviations(self, values: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
        known = values * (turns != 0)
        products = (known @ known.conj().transpose(-1, -2)).real
        return (torch.einsum("mc,gcd,md->gm", self._mixtures, products, self._mixtures) / 2).sqrt()


def _exponent_of(z: torch.Tensor, positions: int, spectrum: detect._Spectrum) -> torch.Tensor:
    return z**2 / 2 - float(np.log(detect._FAMILIES * positions * 2 * len(spectrum.mixtures)))
