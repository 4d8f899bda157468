"""Frames of a folder or a video, and refused inputs."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

from emotalking.data import Subject
from emotalking.errors import InputError
from emotalking.evaluate.systems import System, open_system

CPU = torch.device("cpu")


def frames_of(subject: Subject, indices: np.ndarray) -> list[np.ndarray]:
    return [subject.target(int(index)) for index in indices]


def write_folder(folder: Path, frames: list[np.ndarray], name: str = "{:05d}.png", first: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames):
        cv2.imwrite(str(folder / name.format(number + first)), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    return folder


def write_video(path: Path, frames: list[np.ndarray], fps: int = 25, codec: str = "ffv1") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(fps))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def opened(subject: Subject, path: Path | str, start: int | None = None) -> System:
    return open_system("it", str(path), subject, CPU, start)


def test_as_many_frames_as_held_out_ones_are_those(actor_subject: Subject, tmp_path: Path) -> None:
    truth = frames_of(actor_subject, actor_subject.val_indices)
    for name in ("{:05d}.png", "{}.png", "ngp_ep0028_{:04d}_rgb.png"):
        folder = write_folder(tmp_path / str(len(name)), truth, name)
        if "rgb" in name:  # ER-NeRF writes depth beside
            write_folder(folder, truth, "ngp_ep0028_{:04d}_depth.png")
        system = opened(actor_subject, folder)
        assert np.array_equal(system.indices, actor_subject.val_indices)
        read = list(system.frames(actor_subject.val_indices[1:]))
        assert all(np.array_equal(a, b) for a, b in zip(read, truth[1:], strict=True))


def test_whole_clip_is_cut_to_the_held_out_part(actor_subject: Subject, tmp_path: Path) -> None:
    everything = frames_of(actor_subject, np.arange(actor_subject.num_frames))
    system = opened(actor_subject, write_video(tmp_path / "out.mkv", everything))
    assert system.source.kind == "video" and system.source.note == ""
    assert np.array_equal(system.indices[system.indices >= 0], actor_subject.val_indices)
    read = list(system.frames(actor_subject.val_indices))
    assert all(np.array_equal(a, everything[i]) for a, i in zip(read, actor_subject.val_indices, strict=True))


def test_names_and_start_tell_which_frames_a_part_shows(actor_subject: Subject, tmp_path: Path) -> None:
    held_out = actor_subject.val_indices
    part = frames_of(actor_subject, held_out[1:])
    by_name = opened(actor_subject, write_folder(tmp_path / "named", part, first=int(held_out[1])))
    assert np.array_equal(by_name.indices, held_out[1:])
    plain = write_folder(tmp_path / "plain", part)
    by_start = opened(actor_subject, plain, start=int(held_out[1]))
    assert np.array_equal(by_start.indices, held_out[1:])
    early = opened(actor_subject, plain, start=int(held_out[0]) - 1)
    assert early.indices.tolist() == [-1, held_out[0]]
    with pytest.raises(InputError, match="neither the 3 held-out ones.*give the start"):
        opened(actor_subject, plain)
    with pytest.raises(InputError, match="beyond the subject's frames"):
        opened(actor_subject, plain, start=int(held_out[-1]))
    with pytest.raises(InputError, match="trained on.*begin at frame 30"):
        opened(actor_subject, plain, start=2)


def test_output_folders_of_the_rivals_are_found(actor_subject: Subject, tmp_path: Path) -> None:
    truth = frames_of(actor_subject, actor_subject.val_indices)
    model = tmp_path / "output" / "someone"
    for name in ("out.mp4", "out_face.mp4", "out_mouth.mp4"):
        write_video(model / "test" / "ours_None" / "renders" / name, truth, codec="libx264")
    write_video(model / "test" / "ours_None" / "gt" / "out.mp4", truth, codec="libx264")
    system = opened(actor_subject, model)
    assert system.source.note.startswith("h264 video: its compression")
    assert len(list(system.frames(actor_subject.val_indices))) == 3
    write_folder(tmp_path / "trial" / "results", truth, "ngp_ep0028_{:04d}_rgb.png")
    assert opened(actor_subject, tmp_path / "trial").source.kind == "frames"
    assert opened(actor_subject, model / "test").path.endswith("test")
    # ER-NeRF without its torso script: depth, attention and uncertainty beside the image, counted from 1.
    for layer in ("rgb", "depth", "aud", "eye", "uncertainty"):
        name = f"ngp_ep0028_{{:04d}}_{layer}.png"
        write_folder(tmp_path / "valid" / "validation", truth, name, first=1)
    assert np.array_equal(opened(actor_subject, tmp_path / "valid").indices, actor_subject.val_indices)
    write_video(tmp_path / "valid" / "results" / "ngp_ep0028.mp4", truth, codec="libx264")
    assert opened(actor_subject, tmp_path / "valid").source.kind == "video"
    write_video(model / "test" / "ours_7000" / "renders" / "out.mp4", truth, codec="libx264")
    with pytest.raises(InputError, match="several outputs"):
        opened(actor_subject, model)


def test_the_recording_is_itself(actor_subject: Subject) -> None:
    system = opened(actor_subject, "recording")
    read = list(system.frames(actor_subject.val_indices))
    assert all(np.array_equal(a, b) for a, b in zip(read, frames_of(actor_subject, system.indices), strict=True))
    with pytest.raises(InputError, match="start: is for frames"):
        opened(actor_subject, "recording", start=30)


def test_broken_folders_are_refused_in_a_sentence(actor_subject: Subject, tmp_path: Path) -> None:
    truth = frames_of(actor_subject, actor_subject.val_indices)
    with pytest.raises(InputError, match="there is nothing at"):
        opened(actor_subject, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="neither numbered PNG or JPEG frames nor a video"):
        opened(actor_subject, tmp_path / "empty")
    gap = write_folder(tmp_path / "gap", truth)
    (gap / "00001.png").unlink()
    with pytest.raises(InputError, match=r"frame 1 is missing.*0 to 2"):
        opened(actor_subject, gap)
    write_folder(tmp_path / "twice", truth)
    write_folder(tmp_path / "twice", truth[:1], "{}.png")
    with pytest.raises(InputError, match="same frame number"):
        opened(actor_subject, tmp_path / "twice")
    write_folder(tmp_path / "runs", truth, "a_{}.png")
    write_folder(tmp_path / "runs", truth, "b_{}.png", first=3)
    with pytest.raises(InputError, match="several runs"):
        opened(actor_subject, tmp_path / "runs")
    stray = write_folder(tmp_path / "stray", truth)
    (stray / "sheet.png").write_bytes(b"")
    with pytest.raises(InputError, match="no frame number"):
        opened(actor_subject, stray)
    (stray / "sheet.png").unlink()
    (stray / "00001.png").write_bytes(b"not a picture")
    with pytest.raises(InputError, match="not a readable image"):
        list(opened(actor_subject, stray).frames(actor_subject.val_indices))
    cv2.imwrite(str(stray / "00001.png"), np.zeros((64, 64, 4), np.uint8))
    with pytest.raises(InputError, match="transparent"):
        list(opened(actor_subject, stray).frames(actor_subject.val_indices))


def test_another_frame_rate_is_refused(actor_subject: Subject, tmp_path: Path) -> None:
    truth = frames_of(actor_subject, actor_subject.val_indices)
    with pytest.raises(InputError, match="30 frames/s and the subject 25"):
        opened(actor_subject, write_video(tmp_path / "out.mkv", truth, fps=30))
