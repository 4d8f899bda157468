"""HuBERT and wav2vec 2.0 from a model folder: tiny networks with random weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from emotalking.audio import transformers as room
from emotalking.audio.features import extract_features, feature_track
from emotalking.audio.transformers import hidden_states, open_network
from emotalking.data.audio_features import AudioFeature
from emotalking.errors import InputError
from emotalking.io.rows import GrowingRows

transformers = pytest.importorskip("transformers")

TINY = dict(hidden_size=24, num_hidden_layers=4, num_attention_heads=3, intermediate_size=32, conv_dim=[8] * 7)
TINY |= dict(num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, conv_bias=True, vocab_size=8)
TINY |= dict(feat_extract_norm="layer", do_stable_layer_norm=True)
KINDS = {"hubert": ("HubertConfig", "HubertForCTC"), "wav2vec2": ("Wav2Vec2Config", "Wav2Vec2ForCTC")}
SOUND = (np.random.default_rng(0).normal(0, 0.1, 40_000) * np.sin(np.arange(40_000) / 1500)).astype(np.float32)


def make_folder(root: Path, kind: str, **changes: object) -> Path:
    config, model = (getattr(transformers, name) for name in KINDS[kind])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = model(config(**{**TINY, **changes}))
    made.save_pretrained(root)
    return root


def tiny(kind: str) -> AudioFeature:
    return AudioFeature(kind, "xx", 2, 24)


@pytest.mark.parametrize("kind", list(KINDS))
def test_equals_the_network_itself(no_models: Path, kind: str) -> None:
    name = {"hubert": "hubert-large-ls960-ft", "wav2vec2": "wav2vec2-large-960h-lv60-self"}[kind]
    folder = make_folder(no_models / name, kind)
    track = room.track((part for part in (SOUND[:9000], SOUND[9000:])), tiny(kind))
    inner = getattr(transformers, KINDS[kind][1]).from_pretrained(folder, local_files_only=True).eval()
    inner = getattr(inner, kind)
    normal = np.pad((SOUND - SOUND.mean()) / np.sqrt(SOUND.var() + 1e-7), (0, 80))
    with torch.no_grad():
        out = inner(torch.from_numpy(normal)[None].float(), output_hidden_states=True)
    whole = (out.last_hidden_state if kind == "hubert" else out.hidden_states[3])[0].numpy()
    assert track.values.shape == (125, 24)
    assert np.abs(track.values[:] - whole).max() < 1e-4
    # The published layout: frame i holds the steps 2i and 2i + 1.
    frames = track.frames(np.arange(62), 25)
    assert frames.shape == (62, 2, 24) and np.array_equal(frames.reshape(-1, 24), track.values[:124])
    quiet = room.track([SOUND * np.float32(0.0316)], tiny(kind)).values[:]
    assert np.abs(quiet - whole).mean() < 1e-2
    assert not room.track([np.zeros(16000, np.float32)], tiny(kind)).values[:].any()


def test_pieces_leave_no_seam(no_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = open_network("hubert", make_folder(no_models / "m", "hubert"))
    sound = GrowingRows(1)
    sound.append(SOUND[:, None])
    whole = np.concatenate(list(hidden_states(network, sound, 0.0, 10.0, 1.0)))
    for name, value in (("PIECE", 40), ("CONTEXT", 20), ("BLEND", 5)):
        monkeypatch.setattr(room, name, value)
    parts = np.concatenate(list(hidden_states(network, sound, 0.0, 10.0, 1.0)))
    assert parts.shape == whole.shape == (125, 24)
    size = whole.std()
    assert np.abs(parts - whole).mean() < 0.02 * size and np.abs(parts - whole).max() < 0.2 * size
    steps = np.abs(np.diff(parts, axis=0)).mean(1)
    assert steps[[39, 79, 119]].mean() < 1.5 * np.median(steps)


def test_old_file_names(no_models: Path) -> None:
    folder = make_folder(no_models / "m", "hubert")
    from safetensors.torch import load_file

    weights = load_file(folder / "model.safetensors")
    old = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for name, tensor in weights.items()
    }
    before = open_network("hubert", folder)(torch.from_numpy(SOUND), 1.0)
    (folder / "model.safetensors").unlink()
    torch.save(old, folder / "pytorch_model.bin")
    open_network.cache_clear()
    assert torch.equal(open_network("hubert", folder)(torch.from_numpy(SOUND), 1.0), before)


def test_what_is_missing_is_said(no_models: Path) -> None:
    with pytest.raises(InputError, match="hubert-large-ls960-ft"):
        extract_features(np.zeros(16000, np.float32), 25, 25, "hubert")
    folder = make_folder(no_models / "hubert-large-ls960-ft", "hubert")
    with pytest.raises(InputError, match="24 numbers a step"):
        feature_track(SOUND, "hubert")
    with pytest.raises(InputError, match="no wav2vec2 model"):
        open_network("wav2vec2", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"feat_extract_norm": "group"}))
    open_network.cache_clear()
    with pytest.raises(InputError, match="large"):
        open_network("hubert", folder)
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 5}))
    with pytest.raises(InputError, match="missing"):
        open_network("hubert", folder)
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="damaged"):
        open_network("hubert", folder)
