import math
from pathlib import Path

import pytest

from sickbay.datasets.formats.pointclouds import (
    read_off,
    read_orientation,
    read_peaks,
    read_ply,
    read_xyz,
)

VERTICES = "0 0 0\n1 0 0\n1 1 0\n0 1 0\n"
PLY_HEAD = "ply\nformat ascii 1.0\ncomment a cube\nelement vertex 2\n"
XYZ = "property float x\nproperty float y\nproperty float z\n"


def written(tmp_path, text, name="thing.off") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "head",
    [
        "OFF\n4 1 0\n",
        "OFF4 1 0\n",
        "OFF 4 1 0\n",
        "# hi\nOFF\n\n4 1 0\n",
        "OFF # a mesh\n4 1 0 # of one face\n",
    ],
)
def test_off_headers_plain_and_glued(tmp_path, head):
    mesh = read_off(written(tmp_path, head + VERTICES + "4 0 1 2 3\n"))
    assert mesh.vertices.shape == (4, 3)
    assert mesh.triangles.tolist() == [[0, 1, 2], [0, 2, 3]]


def test_off_faces_may_be_polygons_carry_colours_or_be_degenerate(tmp_path):
    faces = "3 0 1 2 255 0 0\n4 0 1 2 3\n2 0 1\n"
    mesh = read_off(written(tmp_path, "OFF\n4 3 0\n" + VERTICES + faces))
    assert len(mesh.triangles) == 3


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("", 1, "begins with the word OFF"),
        ("PLY\n", 1, "begins with the word OFF"),
        ("OFF", 1, "counts of vertices"),
        ("OFF\nfour 1 0\n", 2, "counts of vertices"),
        ("OFF\n0 0 0\n", 2, "counts of vertices"),
        ("OFF\n4 1 0\n" + VERTICES, 6, "4 vertices and 1 faces are announced, but the file ends"),
        ("OFF\n4 1 0\n0 0 0\n1 0\n1 1 0\n0 1 0\n3 0 1 2\n", 4, "expected 3 finite numbers"),
        ("OFF\n4 1 0\n0 0 0\n1 x 0\n1 1 0\n0 1 0\n3 0 1 2\n", 4, "expected 3 finite .* '1 x 0'"),
        ("OFF\n4 1 0\n0 0 0\n1 nan 0\n1 1 0\n0 1 0\n3 0 1 2\n", 4, "expected 3 finite"),
        ("OFF\n4 1 0\n" + VERTICES + "3 0 1 9\n", 7, "not one of the 4 vertices"),
        ("OFF\n4 1 0\n" + VERTICES + "3 0 1 -1\n", 7, "not one of the 4 vertices"),
        ("OFF\n4 1 0\n" + VERTICES + "3 0 1\n", 7, "expected a face"),
        ("OFF\n4 1 0\n" + VERTICES + "three\n", 7, "expected a face"),
        ("OFF\n4 1 0\n" + VERTICES + "2 0 1\n", 7, "no face with three corners"),
    ],
)
def test_a_bad_off_names_the_file_and_the_line(tmp_path, text, line, problem):
    with pytest.raises(ValueError, match=rf"thing\.off, line {line}: .*{problem}"):
        read_off(written(tmp_path, text))


def test_a_missing_or_binary_file_is_a_clear_error(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.off: cannot be read: No such file"):
        read_off(tmp_path / "gone.off")
    (tmp_path / "binary.ply").write_bytes(b"ply\n\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"binary\.ply, line 1: this is not a text file"):
        read_ply(tmp_path / "binary.ply")


def test_ply_reads_coordinates_by_name(tmp_path):
    properties = "property float y\nproperty uchar red\nproperty float x\nproperty float z\n"
    text = PLY_HEAD + properties + "end_header\n2 255 1 3\n5 0 4 6\n"
    assert read_ply(written(tmp_path, text, "c.ply")).tolist() == [[1, 2, 3], [4, 5, 6]]


def test_ply_skips_other_elements(tmp_path):
    head = "ply\nformat ascii 1.0\nelement camera 1\nproperty float f\n"
    head += "element vertex 2\n" + XYZ + "element face 1\nproperty list uchar int vertex_indices\n"
    text = head + "end_header\n99\n1 2 3\n4 5 6\n3 0 1 0\n"
    assert read_ply(written(tmp_path, text, "c.ply")).tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("", 1, "begins with `ply`"),
        (PLY_HEAD + XYZ, 1, "has a line `end_header`"),
        ("ply\nformat binary_little_endian 1.0\nend_header\n", 2, "only `format ascii` is read"),
        (PLY_HEAD + "property float x\nend_header\n1\n2\n", 6, "no vertices with x, y and z"),
        (PLY_HEAD + XYZ + "end_header\n1 2 3\n", 9, "2 vertices are announced, and 1 follow"),
        (PLY_HEAD + XYZ + "end_header\n1 2 3\n4 five 6\n", 10, "expected 3 finite numbers"),
        ("ply\nelement vertex many\nend_header\n", 2, "expected `element NAME COUNT`"),
        (PLY_HEAD + "property list uchar int x\nend_header\n", 5, "no such property"),
    ],
)
def test_a_bad_ply_names_the_file_and_the_line(tmp_path, text, line, problem):
    with pytest.raises(ValueError, match=rf"c\.ply, line {line}: .*{problem}"):
        read_ply(written(tmp_path, text, "c.ply"))


def test_xyz_takes_the_first_three_columns(tmp_path):
    path = written(tmp_path, "1,2,3,0,0,1\n4,5,6,0,1,0\n", "c.txt")
    assert read_xyz(path).tolist() == [[1, 2, 3], [4, 5, 6]]
    with pytest.raises(ValueError, match=r"e\.txt, line 1: the file holds no points"):
        read_xyz(written(tmp_path, "\n", "e.txt"))
    with pytest.raises(ValueError, match=r"c\.txt, line 2: expected 3 finite numbers"):
        read_xyz(written(tmp_path, "1,2,3\n4,5\n", "c.txt"))


@pytest.mark.parametrize(
    ("front", "theta"), [("0 0 -1", 0.0), ("1 0 0", 90.0), ("0 0 1", 180.0), ("-1 0.5 0", -90.0)]
)
def test_forward_is_minus_z(tmp_path, front, theta):
    path = written(tmp_path, f"1 0 0\n0 1 0\n{front}\n", "frame.txt")
    assert math.degrees(read_orientation(path)) == pytest.approx(theta)


def test_a_bad_orientation_names_the_file_and_the_line(tmp_path):
    with pytest.raises(ValueError, match=r"f\.txt, line 2: expected three lines .* found 2"):
        read_orientation(written(tmp_path, "1 0 0\n0 1 0\n", "f.txt"))
    with pytest.raises(ValueError, match=r"f\.txt, line 3: the front is vertical"):
        read_orientation(written(tmp_path, "1 0 0\n0 0 1\n0 1 0\n", "f.txt"))


def test_peaks_are_read_and_their_weights_brought_to_one(tmp_path):
    text = "# a comment\nK 2\nmu kappa weight\n0.5 8 3\n-1.5 4 1\n"
    peaks = read_peaks(written(tmp_path, text, "p.txt"))
    assert peaks == ((0.5, 8.0, 0.75), (-1.5, 4.0, 0.25))


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("", 1, "expected a line `K n`"),
        ("K none\nmu kappa weight\n", 1, "expected a line `K n`"),
        ("K 2\nmu kappa weight\n0 8 1\n", 3, "K is 2, but 1 rows"),
        ("K 1\nmu kappa weight\n0 8\n", 3, "expected 3 finite numbers"),
        ("K 1\nmu kappa weight\n0 -8 1\n", 3, "may not be negative"),
        ("K 1\nmu kappa weight\n0 8 0\n", 3, "nor all weights zero"),
    ],
)
def test_bad_peaks_name_the_file_and_the_line(tmp_path, text, line, problem):
    with pytest.raises(ValueError, match=rf"p\.txt, line {line}: .*{problem}"):
        read_peaks(written(tmp_path, text, "p.txt"))
