"""The preview shows what the folder holds."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from emotalking import api
from emotalking.data import Subject
from emotalking.data.labels import Label
from emotalking.errors import InputError
from emotalking.preprocess import preview as panels
from emotalking.preprocess.preview import head_angles, make_preview
from emotalking.testing.actor.actor import head_viewmat


@pytest.fixture
def folder(actor_subject: Subject, tmp_path: Path) -> Path:
    """The actor's folder, linked so that the shared one stays as it is."""
    for path in actor_subject.files.root.iterdir():
        (tmp_path / path.name).symlink_to(path)
    return tmp_path


def test_the_video_and_the_page(folder: Path) -> None:
    video, page = api.preview(folder)
    subject = Subject.open(folder)
    with av.open(str(video)) as container:
        images = [frame.to_ndarray(format="rgb24") for frame in container.decode(container.streams.video[0])]
        assert len(container.streams.audio) == 1
    assert len(images) == subject.num_frames
    index = 20
    shown = images[index][panels.TOP : panels.TOP + panels.SIDE, panels.LEFT : panels.LEFT + panels.SIDE]
    frame = panels.fitted(subject.original(index))
    # Landmarks and axes cover a few per cent of the picture; the rest is the frame.
    assert np.median(np.abs(shown.astype(int) - frame)) < 4
    assert np.abs(images[5].astype(int) - images[25]).mean() > 0.5
    text = page.read_text()
    assert text.count("data:image/jpeg") >= 4 and text.count("<svg") == 3
    assert "deepest blink" in text and "<script" not in text


def test_landmarks_lie_on_the_face(folder: Path) -> None:
    """Lips are drawn where the mask has lips: around the inner mouth."""
    subject = Subject.open(folder)
    index = int(subject.mouth_opening.argmax())
    image = np.zeros((subject.height, subject.width, 3), np.uint8)
    track = subject.landmarks
    drawn = panels.mesh_panel(image, track.points[index].astype(float), np.full((4, 2), -99.0), track.layout, True)
    yellow = (drawn[..., 0].astype(int) - drawn[..., 2] > 100) & (drawn[..., 1] > 150)
    mouth = cv2.resize((subject.frame(index).labels == Label.MOUTH).astype(np.uint8), drawn.shape[1::-1])
    rows, columns = np.nonzero(mouth)
    assert len(rows) > 0
    around = yellow[rows.min() - 30 : rows.max() + 30, columns.min() - 40 : columns.max() + 40]
    assert around.sum() > 100


def test_angles_have_their_signs() -> None:
    views = np.stack([head_viewmat(0.2), head_viewmat(0.0, 0.1), head_viewmat(0.0, 0.0, -0.15)])
    np.testing.assert_allclose(head_angles(views), np.degrees(np.diag([0.2, 0.1, -0.15])), atol=1e-3)
    assert np.abs(Rotation.from_matrix(views[0, :3, :3]).magnitude()) > 0


def test_other_shapes_and_missing_things(folder: Path) -> None:
    wide = panels.fitted(np.full((60, 120, 3), 200, np.uint8))
    assert (wide[panels.SIDE // 2] == 200).all() and (wide[0] == panels.PANEL).all()
    (folder / "va.csv").unlink()
    (folder / "aud.wav").unlink()
    video, _ = make_preview(Subject.open(folder))
    with av.open(str(video)) as container:
        assert not container.streams.audio
    (folder / "au.csv").unlink()
    (folder / "au.csv").write_text("frame, AU99_r\n" + "".join(f"{i}, 0\n" for i in range(33)))
    with pytest.raises(InputError, match="holds none of AU01"):
        make_preview(Subject.open(folder))
