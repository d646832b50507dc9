"""Readers of single files with points, surfaces or orientations.

A bad file is a ValueError whose message names the file, and the line where there is one.
"""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from sickbay.datasets.formats.meshes import FloatArray, Mesh, fan


class Peak(NamedTuple):
    """A direction that a thing may face: radians, concentration (None: the task's), weight."""

    mu: float
    kappa: float | None
    weight: float


class _Line(NamedTuple):
    number: int
    text: str


class _Element(NamedTuple):
    name: str
    size: int
    properties: list[str]


def read_off(path: Path) -> Mesh:
    """Read an OFF mesh in the file's own frame.

    The counts may be glued to the magic (`OFF18515 26870 0`, as in 2,862 files of ModelNet40).
    Faces may be polygons; those with fewer than three corners have no surface and are left out.
    What follows a `#` is a comment.
    """
    bare = [_Line(line.number, line.text.partition("#")[0].strip()) for line in _lines(path)]
    lines = [line for line in bare if line.text]
    if not lines or not lines[0].text.startswith("OFF"):
        _fail(path, lines[0].number if lines else 1, "an OFF file begins with the word OFF")
    glued = lines[0].text[3:].strip()
    counts_line = _Line(lines[0].number, glued) if glued else lines[1] if len(lines) > 1 else None
    counts = _integers(counts_line.text) if counts_line else None
    if counts_line is None or counts is None or len(counts) < 2 or min(counts[:2]) < 1:
        number = counts_line.number if counts_line else lines[0].number
        _fail(path, number, "expected the counts of vertices, faces and edges")
    body = lines[1:] if glued else lines[2:]
    vertex_count, face_count = counts[0], counts[1]
    if len(body) < vertex_count + face_count:
        problem = f"{vertex_count} vertices and {face_count} faces are announced"
        _fail(path, body[-1].number if body else 1, f"{problem}, but the file ends here")
    vertices = _table(path, body[:vertex_count], 3)
    triangles: list[tuple[int, int, int]] = []
    for line in body[vertex_count : vertex_count + face_count]:
        triangles.extend(fan(_face(path, line, vertex_count)))
    if not triangles:
        _fail(path, body[-1].number, "there is no face with three corners or more")
    return Mesh(vertices, np.array(triangles, dtype=np.int64))


def read_ply(path: Path) -> FloatArray:
    """Read the x, y, z of an ASCII PLY's vertices, shape (N, 3); other properties are skipped."""
    lines = _lines(path)
    end = next((index for index, line in enumerate(lines) if line.text == "end_header"), None)
    if not lines or lines[0].text != "ply" or end is None:
        _fail(path, 1, "a PLY file begins with `ply` and has a line `end_header`")
    elements = _ply_elements(path, lines[1:end])
    before = itertools.takewhile(lambda element: element.name != "vertex", elements)
    first = end + 1 + sum(element.size for element in before)
    vertex = next((element for element in elements if element.name == "vertex"), None)
    if vertex is None or not {"x", "y", "z"} <= set(vertex.properties):
        _fail(path, end + 1, "the header declares no vertices with x, y and z")
    body = lines[first : first + vertex.size]
    if len(body) < vertex.size or not body:
        problem = f"{vertex.size} vertices are announced, and {len(body)} follow"
        _fail(path, lines[-1].number, problem)
    table = _table(path, body, len(vertex.properties))
    return np.asarray(table[:, [vertex.properties.index(axis) for axis in "xyz"]])


def read_xyz(path: Path) -> FloatArray:
    """Read a text cloud, a point a line, `x,y,z` first (normals may follow), shape (N, 3)."""
    lines = [line for line in _lines(path) if line.text]
    if not lines:
        _fail(path, 1, "the file holds no points")
    return _table(path, lines, 3)


def read_orientation(path: Path) -> float:
    """Read a frame (three lines: side, up, front) and return the yaw of its front, radians.

    Forward is −Z at 0: θ = atan2(front_x, −front_z), with Y up.
    """
    lines = [line for line in _lines(path) if line.text]
    if len(lines) != 3:
        _fail(path, len(lines), f"expected three lines (side, up, front), found {len(lines)}")
    front_x, _, front_z = _table(path, lines, 3)[2]
    if math.hypot(front_x, front_z) < 1e-6:
        _fail(path, lines[2].number, "the front is vertical or zero: it has no yaw")
    return math.atan2(front_x, -front_z)


def read_peaks(path: Path) -> tuple[Peak, ...]:
    """Read `<id>_multi_peak_vM_gt.txt`: comments, `K n`, a header, n rows `mu kappa weight`."""
    lines = [line for line in _lines(path) if line.text and not line.text.startswith("#")]
    tokens = lines[0].text.split() if lines else []
    count = _integers(" ".join(tokens[1:2])) if tokens[:1] == ["K"] else None
    if not count or count[0] < 1:
        _fail(path, lines[0].number if lines else 1, "expected a line `K n` with n of at least 1")
    rows = lines[2:]
    if len(rows) != count[0]:
        problem = f"K is {count[0]}, but {len(rows)} rows `mu kappa weight` follow the header"
        _fail(path, lines[-1].number, problem)
    table = _table(path, rows, 3)
    if (table[:, 1:] < 0.0).any() or table[:, 2].sum() <= 0.0:
        _fail(path, rows[0].number, "kappa and weight may not be negative, nor all weights zero")
    total = float(table[:, 2].sum())
    return tuple(Peak(mu, kappa, weight / total) for mu, kappa, weight in table.tolist())


def _lines(path: Path) -> list[_Line]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        _fail(path, 1, "this is not a text file")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    return [_Line(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]


def _ply_elements(path: Path, header: Sequence[_Line]) -> list[_Element]:
    elements: list[_Element] = []
    for number, text in header:
        tokens = text.split()
        if tokens[:1] == ["format"] and tokens[1:2] != ["ascii"]:
            _fail(path, number, f"only `format ascii` is read, not `{text}`; convert the file")
        if tokens[:1] == ["element"]:
            count = _integers(" ".join(tokens[2:]))
            if count is None or len(count) != 1 or count[0] < 0:
                _fail(path, number, f"expected `element NAME COUNT`, found {text[:60]!r}")
            elements.append(_Element(tokens[1], count[0], []))
        elif tokens[:1] == ["property"]:
            if not elements or (elements[-1].name == "vertex" and tokens[1:2] == ["list"]):
                _fail(path, number, f"a vertex has no such property: {text[:60]!r}")
            elements[-1].properties.append(tokens[-1])
    return elements


def _table(path: Path, lines: Sequence[_Line], columns: int) -> FloatArray:
    """Parse the first `columns` numbers of every line; commas count as blanks."""
    texts = [line.text.replace(",", " ") for line in lines]
    try:
        table = np.loadtxt(texts, usecols=range(columns), comments=None, ndmin=2)
        good = bool(np.isfinite(table).all())
    except ValueError:
        good = False
    if not good:
        rows = [text.split()[:columns] for text in texts]
        bad = next(line for line, row in zip(lines, rows, strict=True) if not _is_row(row, columns))
        _fail(path, bad.number, f"expected {columns} finite numbers, found {bad.text[:60]!r}")
    return np.asarray(table, dtype=np.float64)


def _is_row(tokens: Sequence[str], columns: int) -> bool:
    try:
        return len(tokens) == columns and all(math.isfinite(float(word)) for word in tokens)
    except ValueError:
        return False


def _integers(text: str) -> list[int] | None:
    try:
        return [int(word) for word in text.split()]
    except ValueError:
        return None


def _face(path: Path, line: _Line, vertex_count: int) -> list[int]:
    tokens = line.text.split()
    size = _integers(" ".join(tokens[:1]))
    corners = _integers(" ".join(tokens[1 : 1 + size[0]])) if size else None
    if not size or corners is None or len(corners) != size[0]:
        _fail(path, line.number, f"expected a face `n i1 … in`, found {line.text[:60]!r}")
    if corners and not (min(corners) >= 0 and max(corners) < vertex_count):
        _fail(path, line.number, f"a corner is not one of the {vertex_count} vertices")
    return corners


def _fail(path: Path, number: int, problem: str) -> NoReturn:
    raise ValueError(f"{path}, line {number}: {problem}")
