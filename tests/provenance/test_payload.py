"""The payload of the mark: fields, check, and correction of errors."""

import numpy as np
import pytest

from emotalking.provenance.payload import CODED_BITS, TOOL, Payload, bit_errors, decode, encode


def read(evidence: np.ndarray, variance: float = 1.0) -> Payload | None:
    """The payload, where it is hardly another one."""
    reading = decode(evidence, variance * CODED_BITS)
    return reading.payload if reading.doubt < 0.01 else None


def soft(payload: Payload, noise: float, seed: int) -> np.ndarray:
    """Evidence of a code word in Gaussian noise."""
    return 1.0 - 2.0 * payload.code_word() + noise * np.random.default_rng(seed).standard_normal(CODED_BITS)


@pytest.mark.parametrize("payload", [Payload(), Payload(0xDEADBEEF), Payload(1, 255), Payload((1 << 32) - 1, 0)])
def test_code_word_is_decoded(payload: Payload) -> None:
    reading = decode(soft(payload, 0.0, 0), float(CODED_BITS))
    assert reading.payload == payload and bit_errors(soft(payload, 0.0, 0), payload) == 0
    assert reading.score == pytest.approx(CODED_BITS) and reading.doubt < 1e-6
    assert reading.choices == (2.0**32 if payload.tool == TOOL else 2.0**40)


def test_noise_is_corrected() -> None:
    payload = Payload(0x12345678)
    wrong = [bit_errors(soft(payload, 0.9, seed), payload) for seed in range(20)]
    assert min(wrong) > 0.05 and all(read(soft(payload, 0.9, seed), 0.81) == payload for seed in range(20))


def test_much_noise_is_corrected() -> None:
    """Near the limit: a sixth of an information bit in each coded bit, and a quarter of these wrong."""
    payload = Payload(0x12345678)
    found = [decode(soft(payload, 1.75, seed), 1.75**2 * CODED_BITS) for seed in range(20)]
    assert np.mean([bit_errors(soft(payload, 1.75, seed), payload) for seed in range(20)]) > 0.25
    assert sum(one.payload == payload for one in found) >= 17
    assert all(one.payload == payload for one in found if one.doubt < 0.01)


def test_bits_of_known_tools_need_not_be_read() -> None:
    """Noise that leaves too little of a code word with an unknown tool."""
    hits = {
        tool: sum(read(soft(Payload(0x12345678, tool), 1.75, seed), 1.75**2) is not None for seed in range(20))
        for tool in (TOOL, 200)
    }
    assert hits[TOOL] > hits[200]


def test_noise_is_not_mistaken() -> None:
    """The best of 2^32 words is as good as theory has it for noise, and hardly better than the next."""
    noise = np.random.default_rng(1).standard_normal((20, CODED_BITS))
    for row in noise:
        reading = decode(row, float(CODED_BITS))
        assert reading.score**2 / (2 * CODED_BITS) < np.log(reading.choices) + 3 and reading.doubt > 0.01
    opposite = decode(-soft(Payload(7), 0.0, 0), float(CODED_BITS))
    assert opposite.score < 0.8 * CODED_BITS


def test_code_is_linear_and_cyclic() -> None:
    message = np.random.default_rng(2).integers(0, 2, 64).astype(np.uint8)
    other = np.roll(message, 5)
    assert (encode(message ^ other) == encode(message) ^ encode(other)).all()
    assert (encode(other) == np.roll(encode(message), 5 * 4)).all()


def test_code_words_differ_much() -> None:
    single = np.zeros(64, np.uint8)
    single[3] = 1
    assert encode(single).sum() == 24  # of the four generators' weights; the code's free distance
    far = [(Payload(0).code_word() != Payload(1 << place).code_word()).sum() for place in range(32)]
    assert min(far) >= 24


def test_id_is_the_beginning_of_the_hash() -> None:
    sha256 = "0a1b2c3d" + "e" * 56
    assert Payload.of_avatar(sha256).avatar_id == "0a1b2c3d" and Payload.of_avatar(sha256).tool == TOOL
    assert Payload.of_avatar(None) == Payload() and Payload().avatar_id is None
    assert Payload().tool_name == "EmoTalking" and Payload(0, 200).tool_name is None


def test_fields_out_of_range() -> None:
    with pytest.raises(ValueError, match="avatar"):
        Payload(1 << 32)
    with pytest.raises(ValueError, match="tool"):
        Payload(0, -1)
