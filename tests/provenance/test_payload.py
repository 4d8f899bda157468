"""The payload of the mark: fields, check, and correction of errors."""

import numpy as np
import pytest

from emotalking.provenance.payload import CODED_BITS, TOOL, Payload, bit_errors, decode, encode


def soft(payload: Payload, noise: float, seed: int) -> np.ndarray:
    """Evidence of a code word in Gaussian noise."""
    return 1.0 - 2.0 * payload.code_word() + noise * np.random.default_rng(seed).standard_normal(CODED_BITS)


@pytest.mark.parametrize("payload", [Payload(), Payload(0xDEADBEEF), Payload(1, 255), Payload((1 << 32) - 1, 0)])
def test_code_word_is_decoded(payload: Payload) -> None:
    found, tried = decode(soft(payload, 0.0, 0))
    assert found == payload and bit_errors(soft(payload, 0.0, 0), payload) == 0
    assert tried == 1 if payload.tool == TOOL else 1 < tried <= 257


def test_noise_is_corrected() -> None:
    payload = Payload(0x12345678)
    wrong = [bit_errors(soft(payload, 0.9, seed), payload) for seed in range(20)]
    assert min(wrong) > 0.05 and all(decode(soft(payload, 0.9, seed))[0] == payload for seed in range(20))


def test_much_noise_is_corrected_by_the_check() -> None:
    """The most probable code word is often a wrong one here, and its check fails; one of the next is right."""
    payload = Payload(0x12345678)
    found = [decode(soft(payload, 1.5, seed)) for seed in range(20)]
    assert sum(one == payload for one, _ in found) >= 15 and any(tried > 1 for one, tried in found if one == payload)


def test_bits_of_known_tools_need_not_be_read() -> None:
    """Noise that leaves too little of a code word with an unknown tool."""
    read = {
        tool: sum(decode(soft(Payload(0x12345678, tool), 1.75, seed))[0] is not None for seed in range(20))
        for tool in (TOOL, 200)
    }
    assert read[TOOL] > read[200]


def test_bits_beyond_repair_are_refused() -> None:
    noise = np.random.default_rng(1).standard_normal((40, CODED_BITS))
    results = [decode(row) for row in noise]
    assert all(found is None and 1 <= tried <= 512 for found, tried in results)
    assert decode(-soft(Payload(7), 0.0, 0))[0] is None


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
