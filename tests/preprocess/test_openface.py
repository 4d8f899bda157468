"""Reading OpenFace's CSV: its variants, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from emotalking.data import writer as write
from emotalking.data.files import SubjectFiles
from emotalking.data.readers import read_table
from emotalking.errors import InputError
from emotalking.preprocess.action_units import ALL_AUS, read_openface

N = 50


def _table(
    path: Path, rows: int = N, rate: float = 25.0, gap: str = ", ", skip: tuple[str, ...] = (), stamps: bool = True
) -> Path:
    """A table as FeatureExtraction writes it; AU12 rises by one a second, AU45 is the row's number modulo 5."""
    units = [name for name in ALL_AUS if name not in skip]
    names = ["frame", "face_id", *(["timestamp"] if stamps else []), "confidence", "success"]
    lines = [gap.join([*names, *(f"{u}_r" for u in units), *(f"{u}_c" for u in units), "AU28_c"])]
    for i in range(rows):
        values = [{"AU12": i / rate, "AU45": float(i % 5)}.get(u, 1.5) for u in units]
        head = [str(i + 1), "0", *([f"{i / rate:.3f}"] if stamps else []), "0.98", "1"]
        lines.append(gap.join([*head, *(f"{v:.3f}" for v in values), *["0.00"] * len(units), "0.00"]))
    path.write_text("\n".join(lines) + "\n")
    return path


def _edit(path: Path, row: int, **values: str) -> None:
    lines = [line.split(",") for line in path.read_text().splitlines()]
    names = [name.strip() for name in lines[0]]
    for name, value in values.items():
        lines[row + 1][names.index(name)] = value
    path.write_text("\n".join(",".join(line) for line in lines) + "\n")


@pytest.mark.parametrize("gap", [", ", ","])
def test_names_with_and_without_a_space(tmp_path: Path, gap: str) -> None:
    units = read_openface(_table(tmp_path / "a.csv", gap=gap), N)
    assert tuple(units) == ALL_AUS
    np.testing.assert_allclose(units["AU12"], np.arange(N) / 25, atol=2e-3)
    np.testing.assert_allclose(units["AU45"], np.arange(N) % 5, atol=0.05)


@pytest.mark.parametrize("stamps", [True, False])
@pytest.mark.parametrize("rows", [N - 2, N - 1, N + 1, N + 2])
def test_a_row_or_two_more_or_less(tmp_path: Path, rows: int, stamps: bool) -> None:
    units = read_openface(_table(tmp_path / "a.csv", rows, stamps=stamps), N)
    assert all(values.shape == (N,) for values in units.values())
    np.testing.assert_allclose(units["AU12"][: min(rows, N)], np.arange(min(rows, N)) / 25, atol=2e-3)


def test_another_rate_is_resampled_by_its_stamps(tmp_path: Path) -> None:
    units = read_openface(_table(tmp_path / "a.csv", rows=60, rate=30.0), N)
    np.testing.assert_allclose(units["AU12"][:49], np.arange(49) / 25, atol=3e-3)


def test_a_part_of_the_clip(tmp_path: Path) -> None:
    units = read_openface(_table(tmp_path / "a.csv", rows=100), N, 25, begin_s=1.0)
    np.testing.assert_allclose(units["AU12"], 1 + np.arange(N) / 25, atol=2e-3)


def test_failed_rows_are_bridged(tmp_path: Path) -> None:
    path = _table(tmp_path / "a.csv")
    for row in (10, 11, 12, N - 1):
        _edit(path, row, success="0", AU12_r="0.0")
    _edit(path, 20, AU12_r="nan")
    units = read_openface(path, N)
    np.testing.assert_allclose(units["AU12"][: N - 1], np.arange(N - 1) / 25, atol=3e-3)
    assert units["AU12"][-1] == pytest.approx((N - 2) / 25, abs=3e-3)


@pytest.mark.parametrize("value", ["-nan(ind)", "nan", " -nan(ind)", "1.#QNAN", "-1.#IND00", "1.#INF", "inf"])
def test_a_value_that_is_no_number_is_bridged(tmp_path: Path, value: str) -> None:
    """As OpenFace's builds for Windows write it; one of them does not refuse the table."""
    path = _table(tmp_path / "a.csv", 50)
    whole = read_openface(path, 50)
    _edit(path, 20, AU12_r=value)
    found = read_openface(path, 50)
    for name, values in found.items():
        assert np.isfinite(values).all()
        np.testing.assert_allclose(np.delete(values, 20), np.delete(whole[name], 20))


def test_the_longest_face_of_several_is_taken(tmp_path: Path) -> None:
    path = _table(tmp_path / "a.csv")
    lines = path.read_text().splitlines()
    other = []
    for line in lines[11:31]:
        fields = line.split(", ")
        fields[1], fields[5:] = "1", ["4.000"] * len(fields[5:])
        other.append(", ".join(fields))
    mixed = [line for i, line in enumerate(lines[1:]) for line in ([line, other[i - 10]] if 10 <= i < 30 else [line])]
    path.write_text("\n".join([lines[0], *mixed]) + "\n")
    units = read_openface(path, N)
    np.testing.assert_allclose(units["AU12"], np.arange(N) / 25, atol=2e-3)


@pytest.mark.parametrize(
    ("options", "frames", "message"),
    [
        ({"skip": ("AU07", "AU25")}, N, "lacks the columns AU07_r, AU25_r; run OpenFace's FeatureExtraction with -aus"),
        ({"rows": 30}, N, r"covers 0.00-1.16 s of its clip, but the subject lasts from 0.00 to 2.00 s; run OpenFace"),
        ({"rows": 44, "stamps": False}, N, "has 44 frames and no time stamps, the subject 50"),
        ({"rows": 60, "stamps": False}, N, "has 60 frames and no time stamps, the subject 50"),
    ],
)
def test_what_is_refused(tmp_path: Path, options: dict, frames: int, message: str) -> None:
    path = _table(tmp_path / "a.csv", **options)
    with pytest.raises(InputError, match=message) as error:
        read_openface(path, frames)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_table_that_failed_is_refused(tmp_path: Path) -> None:
    path = _table(tmp_path / "a.csv")
    for row in range(30):
        _edit(path, row, success="0")
    with pytest.raises(InputError, match="found a face in 20 of 50 rows"):
        read_openface(path, N)
    (tmp_path / "b.csv").write_text("hello\n")
    with pytest.raises(InputError, match="lacks the columns"):
        read_openface(tmp_path / "b.csv", N)
    with pytest.raises(InputError, match="is missing"):
        read_openface(tmp_path / "none.csv", N)


def test_an_older_table_without_all_units_will_do(tmp_path: Path) -> None:
    units = read_openface(_table(tmp_path / "a.csv", skip=("AU14", "AU26")), N)
    assert "AU14" not in units and len(units) == len(ALL_AUS) - 2


def test_what_we_write_looks_like_openface_and_reads_back(tmp_path: Path) -> None:
    values = {name: np.linspace(0, 5, 7) for name in ALL_AUS}
    found = np.array([True] * 6 + [False])
    write.write_action_units(tmp_path, values, 25, found)
    path = SubjectFiles(tmp_path).action_units
    header = path.read_text().splitlines()[0].split(",")
    assert header[:5] == ["frame", " face_id", " timestamp", " confidence", " success"]
    assert header[5:22] == [f" {name}_r" for name in ALL_AUS] and header[22:] == [f" {name}_c" for name in ALL_AUS]
    table = read_table(path)
    np.testing.assert_array_equal(table["AU12_c"], values["AU12"] >= 1)
    np.testing.assert_allclose(table["timestamp"], np.arange(7) / 25)
    np.testing.assert_array_equal(table["success"], found)
    np.testing.assert_allclose(read_openface(path, 7)["AU45"][:6], values["AU45"][:6], atol=1e-3)
