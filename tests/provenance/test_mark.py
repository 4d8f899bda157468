"""The invisible mark: invisible, the same everywhere, and found after what happens to videos."""

import io
from collections.abc import Callable
from functools import cache
from itertools import product

import av
import cv2
import numpy as np
import pytest
import torch

from emotalking.networks.lpips import Lpips
from emotalking.ops.reference.waves import changes
from emotalking.ops.reference.waves import strength as strength_of
from emotalking.ops.waves import STEPS
from emotalking.provenance.detect import Found, recheck, search
from emotalking.provenance.evidence import Evidence, Piece, grey_levels, of_image
from emotalking.provenance.mark import (
    DISTANCE,
    STILL_SHARE,
    STRONGEST,
    STRONGEST_ALONE,
    STRONGEST_STILL,
    Mark,
    hiding,
)
from emotalking.provenance.pattern import (
    BAND,
    FALL,
    FALL_ALONE,
    PERIOD_S,
    STILL_BAND,
    SYNC_ALONE,
    TILE,
    lines,
    pattern,
    still_pattern,
    swing,
    unit_of,
)
from emotalking.provenance.payload import Payload
from emotalking.testing.actor import Actor, ActorState, head_viewmat

PAYLOAD = Payload(0x5EED1234)
MARK = Mark(PAYLOAD)


@cache
def actor(side: int) -> np.ndarray:
    """The synthetic actor in a frame of this side."""
    return Actor(size=side).render(ActorState(viewmat=head_viewmat())).image


def textured(height: int, width: int, seed: int = 0) -> np.ndarray:
    """An image of noise at all scales, in soft colours."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), 110.0)
    for scale in (1, 4, 16, 64):
        coarse = rng.normal(0, 6, (height // scale + 2, width // scale + 2, 3))
        image += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return image.clip(0, 255).astype(np.uint8)


def find(image: np.ndarray, key: bytes | None = None) -> Found:
    """Search an image."""
    return found_in(of_image(grey_levels(image)), key)


def find_in_video(images: list[np.ndarray], fps: float = 25.0) -> Found:
    """Search frames of a video."""
    piece = Piece()
    for index, image in enumerate(images):
        piece.add(index / fps, grey_levels(image))
    return found_in(piece.evidence())


def found_in(evidence: Evidence, key: bytes | None = None) -> Found:
    found = search(evidence) if key is None else search(evidence, key)
    assert found is not None
    return found


def h264(images: list[np.ndarray], crf: int) -> list[np.ndarray]:
    """Frames after H.264."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": str(crf), "preset": "veryfast"})
        stream.height, stream.width = (side // 2 * 2 for side in images[0].shape[:2])
        stream.pix_fmt = "yuv420p"
        for image in images:
            even = np.ascontiguousarray(image[: stream.height, : stream.width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file, "r") as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def scaled(image: np.ndarray, factor: float) -> np.ndarray:
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=how)


def jpeg(image: np.ndarray) -> np.ndarray:
    made = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_COLOR)
    assert made is not None
    return made


ATTACKS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda image: image,
    "crf 18": lambda image: h264([image] * 3, 18)[-1],
    "crf 23": lambda image: h264([image] * 3, 23)[-1],
    "crf 30": lambda image: h264([image] * 3, 30)[-1],
    "half size": lambda image: scaled(image, 0.5),
    "double size": lambda image: scaled(image, 2.0),
    "480 px, crf 28": lambda image: h264([scaled(image, 480 / 512)] * 3, 28)[-1],
    "crop to the head": lambda image: image[60:330, 120:400],
    "moved": lambda image: np.roll(image, (37, -51), (0, 1)),
    "mirrored": lambda image: image[:, ::-1],
    "brighter": lambda image: (image * 1.15 + 12).clip(0, 255).astype(np.uint8),
    "less contrast": lambda image: (image * 0.7 + 40).astype(np.uint8),
    "grey": lambda image: np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, 2),
    "JPEG": jpeg,
    "stretched": lambda image: cv2.resize(image, (500, 520), interpolation=cv2.INTER_AREA),
}


HARD = {"crf 30", "480 px, crf 28", "crop to the head"}
"""What takes too much of the faint mark in one smooth drawing to read it."""


@pytest.mark.parametrize("attack", ATTACKS)
def test_mark_survives(attack: str) -> None:
    found = find(ATTACKS[attack](MARK.array(textured(512, 512) if attack in HARD else actor(512))))
    assert found.marked and found.payload == PAYLOAD
    assert found.bit_error is not None and found.bit_error < 0.3
    assert found.geometry.mirrored == (attack == "mirrored")


@pytest.mark.parametrize("attack", sorted(HARD - {"crf 30"}))
def test_mark_is_found_in_smooth_drawings(attack: str) -> None:
    assert find(ATTACKS[attack](MARK.array(actor(512)))).marked


VIDEO_ATTACKS: dict[str, Callable[[list[np.ndarray]], list[np.ndarray]]] = {
    "crf 23": lambda images: h264(images, 23),
    "crf 30": lambda images: h264(images, 30),
    "half size, crf 20": lambda images: h264([scaled(image, 0.5) for image in images], 20),
    "crop to the head, crf 20": lambda images: h264([image[12:166, 50:204] for image in images], 20),
}


@cache
def marked_video() -> list[np.ndarray]:
    """2 s of texture of 256 pixels with a part that moves, from a time in the middle of the period on."""
    frames = []
    for time in np.arange(50) / 25:
        image = textured(256, 256)
        image[60:200, 80:180] = np.roll(image, round(6 * np.sin(3 * time)), 0)[60:200, 80:180]
        frames.append(MARK.array(image, 0.7 + time))
    return frames


FRAME_ATTACKS: dict[str, Callable[[list[np.ndarray]], np.ndarray]] = {
    "crf 18": lambda images: h264(images, 18)[-1],
    "crf 23": lambda images: h264(images, 23)[-1],
    "screenshot of crf 18": lambda images: scaled(h264(images, 18)[-1], 1.5),
    "JPEG": lambda images: jpeg(images[-1]),
}


@pytest.mark.parametrize(
    ("kind", "attack"), [("texture", "crf 23"), *product(("drawn", "texture"), sorted(set(FRAME_ATTACKS) - {"crf 23"}))]
)
def test_mark_is_found_in_single_small_frames(kind: str, attack: str) -> None:
    """Of videos, of either sign of the pattern."""
    if kind == "drawn":
        frames = [MARK.array(actor(256), 1.4)] * 3
    else:
        frames = marked_video()[6:12]
    found = find(FRAME_ATTACKS[attack](frames))
    assert found.marked and found.payload == PAYLOAD


@pytest.mark.parametrize("attack", VIDEO_ATTACKS)
def test_mark_survives_in_small_videos(attack: str) -> None:
    found = find_in_video(VIDEO_ATTACKS[attack](marked_video()))
    assert found.marked and found.payload == PAYLOAD


def test_videos_at_other_rates_and_lengths() -> None:
    """Times count, not frames; a video that shows one sign alone is read as an image is; two add up."""
    frames = marked_video()
    for shown, fps in (([frame for frame in frames for _ in range(2)], 50.0), (frames[::2], 12.5)):
        assert find_in_video(shown, fps).payload == PAYLOAD
    assert find_in_video(frames[22:32]).marked
    pieces = [Piece(), Piece()]
    for index, frame in enumerate(frames):
        pieces[index // 25].add(index / 25, grey_levels(frame))
    first, second = (piece.evidence() for piece in pieces)
    assert first.swinging is None and (first + second).swinging is None
    whole = Piece()
    for index, frame in enumerate(frames):
        whole.add(index / 25, grey_levels(frame))
    once = whole.evidence()
    twice, one = found_in(once + once), found_in(once)
    assert one.payload == twice.payload == PAYLOAD and twice.z == pytest.approx(one.z, rel=1e-3)
    assert recheck(once, one.geometry).payload == PAYLOAD
    assert not recheck(once, one.geometry, b"another").marked


def test_sign_changes_each_second() -> None:
    times = np.arange(0, 6, 0.01)
    signs = swing(times)
    assert signs[0] == 1 and swing(np.array([1.0]))[0] == -1 and abs(signs.mean()) < 0.01
    assert signs == pytest.approx(swing(times + PERIOD_S), abs=1e-4)
    assert (np.abs(signs) == 1).mean() > 0.85 and np.abs(np.diff(signs)).max() < 0.2


@pytest.mark.parametrize("attack", ["none", "crf 30"])
def test_nothing_is_found_without_a_mark(attack: str) -> None:
    found = find(ATTACKS[attack](actor(512)))
    assert not found.marked and found.payload is None and found.false_alarm > 1e-3


def test_scale_is_recovered() -> None:
    for factor in (0.5, 0.8, 1.3):
        geometry = find(scaled(MARK.array(actor(512)), factor)).geometry
        assert (geometry.unit_x, geometry.unit_y) == pytest.approx((min(factor, 1.0),) * 2, rel=0.01)


@pytest.mark.parametrize(("height", "width"), [(256, 256), (450, 450), (461, 333), (1080, 1920)])
def test_sizes(height: int, width: int) -> None:
    image = textured(height, width)
    marked = MARK.array(image)
    found = find(marked)
    assert marked.shape == image.shape and found.marked
    assert found.payload == PAYLOAD


def test_wrong_keys_find_nothing() -> None:
    """Correlations with other keys stay below the bound that the theory gives for so many positions."""
    image = MARK.array(actor(512))
    others = [find(image, key=b"other %d" % number) for number in range(6)]
    assert not any(one.marked for one in others)
    # By chance at most one time in 20.
    assert max(one.z for one in others) < np.sqrt(2 * np.log(6 * 5e7 * 20)) < find(image).z
    assert find(Mark(PAYLOAD, b"other 3").array(actor(512)), key=b"other 3").payload == PAYLOAD


def test_flat_and_small_images_have_no_candidate() -> None:
    assert search(of_image(np.full((200, 300), 90, np.float32))) is None
    assert search(Evidence(np.ones((1, 63, 400), np.float32))) is None
    small = textured(63, 200)
    assert (MARK.array(small) == small).all()


@pytest.mark.parametrize(("time", "least"), [(None, 45), (0.0, 43)])
def test_mark_is_invisible_in_numbers(time: float | None, least: float) -> None:
    for image in (actor(512), textured(512, 512), actor(256)):
        difference = MARK.array(image, time).astype(np.float64) - image
        assert 10 * np.log10(255**2 / (difference**2).mean()) > least
        assert np.abs(difference).max() <= (6 if time is None else 8)
        # The mean of no region changes: nothing gets brighter or darker.
        assert np.abs(cv2.blur(difference, (129, 129))).max() < 0.3


@pytest.mark.parametrize(
    ("kind", "side", "most"), [("drawn", 512, 0.0035), ("drawn", 256, 0.0025), ("noise", 256, 0.0118)]
)
def test_mark_is_invisible_to_a_network(kind: str, side: int, most: float) -> None:
    image = actor(side) if kind == "drawn" else textured(side, side)
    plain, marked = (torch.from_numpy(one[None] / np.float32(255)) for one in (image, MARK.array(image)))
    with torch.no_grad():
        assert 0 < float(Lpips.open("squeeze")(marked, plain)) < most  # measured: .00345, .00244, .01165
    assert DISTANCE * (1 + STILL_SHARE) < 0.002


def test_mark_spares_black_white_and_flat_parts() -> None:
    image = np.zeros((256, 512, 3), np.uint8)
    image[:, 256:384], image[:, 384:] = 255, 128
    change = np.abs(MARK.array(image).astype(int) - image)
    assert change[:, :248].max() == 0 and change[:, 264:376].max() == 0
    assert 0.05 < change[:, 400:].mean() < 0.5
    assert change[:, 400:].max() <= 2


def strength(green: torch.Tensor, distance: float | None = None, *, alone: bool = False) -> torch.Tensor:
    height, width = green.shape
    return strength_of(green, hiding(height, width, distance, alone=alone))


def test_strength_follows_texture() -> None:
    image = np.full((512, 512), 128, np.uint8)
    image[:, 256:] += (np.indices((512, 256)).sum(0) % 2).astype(np.uint8) * 4  # differences of 8
    for alone, part, power in ((True, 0, 0.3), (False, 0, 0.5), (True, 1, 0.4), (False, 1, 0.4)):
        amount = strength(torch.from_numpy(image), alone=alone)[part].numpy()
        flat, rough = amount[24:480, 24:160], amount[24:480, 352:488][:, ::-1]  # as far from the middle
        assert flat / rough == pytest.approx(np.full_like(flat, 0.7 / 9**power), rel=1e-3)
        some = strength(torch.from_numpy(image), DISTANCE / 4, alone=alone)[part].numpy()
        assert some[:, :160] == pytest.approx(amount[:, :160] / 2)  # where it is not limited
    # An image of texture alone hides more, and what is allowed to be seen makes it stronger.
    rough = torch.from_numpy(np.ascontiguousarray(image[:, 256:]))
    for made in (strength(rough), strength(torch.from_numpy(image), 1.0)):
        assert made.amax((1, 2)).tolist() == pytest.approx([STRONGEST, STRONGEST_STILL])
    alone = strength(torch.from_numpy(image), 1.0, alone=True)
    assert alone.amax((1, 2)).tolist() == pytest.approx([STRONGEST_ALONE, STRONGEST_STILL])


def test_mark_is_strongest_where_heads_are() -> None:
    amount = strength(torch.from_numpy(textured(512, 512)[..., 1].copy()), DISTANCE / 4).numpy()
    inside, outside = amount[:, 110:270, 180:330].mean((1, 2)), amount[:, :, :60].mean((1, 2))
    assert (1.4 < inside / outside).all() and (inside / outside < 2.2).all()


def test_brightness_changes_in_sevenths_of_a_level() -> None:
    wanted = torch.linspace(-4, 4, 1001)[None]
    made = changes(wanted).double() @ torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    assert (made - wanted).abs().max() < 0.5 / STEPS + 0.035
    assert (changes(torch.tensor([[2.0, -3.0]])) == torch.tensor([[[2] * 3, [-3] * 3]])).all()


def test_mark_does_not_flicker() -> None:
    """What the mark adds to the change from frame to frame of a moving head is small beside the change itself."""
    still = textured(300, 300)
    frames = [np.roll(still, shift, 1)[:, 10:-10] for shift in range(6)]
    marked = [MARK.array(frame) for frame in frames]
    added = [m.astype(float) - f for m, f in zip(marked, frames, strict=True)]
    flicker = np.mean([np.square(b - a).mean() for a, b in zip(added, added[1:], strict=False)])
    assert flicker < 0.25 * np.mean([np.square(one).mean() for one in added])
    assert (MARK.array(frames[0]) == MARK.array(frames[0])).all()


def test_batches_and_alpha() -> None:
    image = torch.from_numpy(textured(128, 160))
    alpha = torch.arange(160, dtype=torch.uint8).expand(128, 160)[..., None]
    rgba = torch.cat([image, alpha], -1)
    batch = MARK(torch.stack([rgba, rgba.flip(0)]))
    assert (batch[0, ..., :3] == MARK(image)).all() and (batch[..., 3:] == torch.stack([alpha, alpha])).all()
    assert (batch[1] == MARK(rgba.flip(0))).all() and not (MARK(image) == image).all()
    with pytest.raises(ValueError, match="channels"):
        MARK(image[..., :2])


def reference(image: np.ndarray, code_word: np.ndarray, alone: bool) -> np.ndarray:
    """The mark, pixel by pixel, in float64."""
    height, width = image.shape[:2]
    unit, chosen = unit_of(height, width), lines()
    cell = max(round(8 * unit), 2)
    y, x = (np.arange(count) + 0.5 for count in (height, width))
    y = y[:, None]
    signs = 1.0 - 2.0 * code_word[chosen.bits]
    fall = FALL_ALONE if alone else FALL

    def waves(*parts: tuple[np.ndarray, np.ndarray], fall: float) -> np.ndarray:
        out, power = np.zeros((height, width)), 0.0
        for index, phase in (one for part in parts for one in zip(*part, strict=True)):
            along_x, along_y = (
                np.exp(2j * np.pi * at * turns / (TILE * unit)) for at, turns in ((x, index[0]), (y, index[1]))
            )
            amplitude = np.hypot(*index) ** -fall
            out += amplitude * np.real(phase * along_y * along_x)
            power += abs(amplitude * phase) ** 2 / 2
        return out / np.sqrt(power)

    known = chosen.sync_phases * (SYNC_ALONE if alone else 1.0)
    swinging = waves((chosen.sync, known), (chosen.data, chosen.data_phases * signs), fall=fall)
    still = waves((chosen.still, chosen.still_phases), fall=0.0)

    green = image[..., 1].astype(np.float64)
    steps = np.zeros_like(green)
    steps[:, :-1] += np.abs(np.diff(green, axis=1))
    steps[:-1] += np.abs(np.diff(green, axis=0))
    rows, columns = -(-height // cell), -(-width // cell)

    def cells(values: np.ndarray) -> np.ndarray:
        return np.array(
            [
                [values[r * cell : (r + 1) * cell, c * cell : (c + 1) * cell].mean() for c in range(columns)]
                for r in range(rows)
            ]
        )

    coarse = cells(np.minimum(steps, 16))
    texture = np.array(
        [[coarse[max(r - 1, 0) : r + 2, max(c - 1, 0) : c + 2].mean() for c in range(columns)] for r in range(rows)]
    )
    visible = np.clip(np.minimum(cells(green) - 6, 249 - cells(green)) / 16, 0, 1)
    down, across = ((np.arange(n) + 0.5) / n for n in (rows, columns))
    head = 1 + np.exp(-(((down[:, None] - 0.38) / 0.25) ** 2 + ((across - 0.5) / 0.2) ** 2) / 2)
    share = visible * (0.7 + 0.3 * np.clip((texture - 0.1) / 0.5, 0, 1)) * head

    def amount(growth: float, cost: float, distance: float, most: float) -> np.ndarray:
        some = share * (1 + texture) ** growth
        costs = cost * min(height / 512, width / 512, 1) ** 0.8 / (1 + texture) ** 1.81
        return np.minimum(some * np.sqrt(distance / (costs * some**2).mean()), most)

    growth = 0.5 if min(height, width) >= 400 else 0.9
    first = amount(0.3, 0.085, 0.0015, 1.2) if alone else amount(growth, 0.046, 0.0015, 2.0)
    second = amount(0.4, 0.12, 0.28 * 0.0015, 0.5)
    at_y, at_x = (np.clip((np.arange(n) + 0.5) / cell - 0.5, 0, m - 1) for n, m in ((height, rows), (width, columns)))
    down, across = at_y.astype(int), at_x.astype(int)
    below, right = np.minimum(down + 1, rows - 1), np.minimum(across + 1, columns - 1)
    fy, fx = (at_y - down)[:, None], at_x - across

    def wide(cells: np.ndarray) -> np.ndarray:
        top = cells[down][:, across] * (1 - fx) + cells[down][:, right] * fx
        bottom = cells[below][:, across] * (1 - fx) + cells[below][:, right] * fx
        return top * (1 - fy) + bottom * fy

    sevenths = np.rint((wide(first) * swinging + wide(second) * still) * 7).astype(int)
    # None, blue, red, both, green, with blue, with red.
    steps = np.array([[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0, 1], [0, 1, 0], [0, 1, 1], [1, 1, 0]])
    return np.clip(image + (sevenths // 7)[..., None] + steps[sevenths % 7], 0, 255)


@pytest.mark.parametrize(("height", "width", "alone"), [(128, 128, True), (150, 203, False), (420, 400, False)])
def test_fast_path_equals_the_reference(height: int, width: int, alone: bool) -> None:
    image = textured(height, width, seed=3)
    expected = reference(image, PAYLOAD.code_word(), alone)
    made = MARK.array(image, None if alone else 0.0)
    # Products within float32's precision of a half are rounded either way.
    assert (made != expected).mean() < 1e-4 and np.abs(made - expected).max() <= 1


@pytest.mark.parametrize("band", [BAND, STILL_BAND])
def test_pattern_has_only_its_frequencies(band: tuple[float, float]) -> None:
    size = (TILE * 2, TILE * 2)
    waves = pattern(PAYLOAD.code_word(), *size) if band == BAND else still_pattern(*size)
    assert waves.dtype == np.float32 and np.square(waves).mean() == pytest.approx(1, abs=1e-3)
    power = np.abs(np.fft.fft2(waves.astype(np.float64))) ** 2
    frequencies = np.hypot(*np.meshgrid(np.fft.fftfreq(2 * TILE), np.fft.fftfreq(2 * TILE)))
    inside = (frequencies >= band[0] - 1e-9) & (frequencies < band[1])
    assert power[~inside].sum() < 1e-9 * power.sum()
    assert waves[:TILE, :TILE] == pytest.approx(waves[TILE:, TILE:], abs=1e-4)


def test_pattern_depends_on_the_payload() -> None:
    waves = pattern(PAYLOAD.code_word(), TILE * 2, TILE * 2)
    other = pattern(Payload(1).code_word(), TILE * 2, TILE * 2)
    assert abs((waves * other).mean()) < 0.8 and unit_of(1080, 1920) == pytest.approx(1080 / 512)


@pytest.mark.gpu
def test_gpu_agrees_with_the_cpu() -> None:
    image = torch.from_numpy(textured(512, 512))
    on_gpu = MARK(image.cuda()).cpu()
    assert (on_gpu != MARK(image)).float().mean() < 1e-3
    assert (on_gpu.int() - MARK(image).int()).abs().max() <= 1


def test_constants_are_those_of_the_published_marks() -> None:
    """A change of any of these makes earlier marks unreadable."""
    chosen = lines()
    assert (len(chosen.sync), len(chosen.data), len(chosen.still)) == (157, 365, 766)
    assert np.angle(chosen.sync_phases[:3]) == pytest.approx([0.640084, 2.324152, 3.130775], abs=1e-5)
    assert chosen.sync[:3].tolist() == [[-13, 15], [-5, 11], [12, 10]]
    assert np.angle(chosen.still_phases[:3]) == pytest.approx([0.541846, -1.172473, -0.402229], abs=1e-5)
    assert chosen.still[:3].tolist() == [[-30, 2], [-29, 2], [-28, 2]]
    assert chosen.bits[:6].tolist() == [159, 78, 237, 106, 103, 31]
