"""Average precision and detection score as nuScenes counts them (Caesar et al. 2020, section 3).

S samples · N predictions of a sample · M boxes of a sample · R = 101 steps of recall

A prediction is right if an unmatched box of its class lies within a distance of its centre on the
ground. AP is the area under the precision over a tenth, at recalls over a tenth; five errors are
measured on the matches within 2 m.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

DISTANCES = (0.5, 1.0, 2.0, 4.0)  # metres
ERROR_DISTANCE = 2.0
LEAST = 0.1  # recall and precision below do not count
MOST_BOXES = 500  # predictions of a sample
RECALLS = np.linspace(0.0, 1.0, 101)
ERRORS = ("translation", "scale", "orientation", "velocity", "attribute")
MOVING = 0.2  # metres a second: the attribute of a box is whether it moves


@dataclass(frozen=True)
class Boxes:
    """Boxes (S, N, 9), their classes (S, N), -1 for none, and scores (S, N)."""

    boxes: Array
    classes: NDArray[np.int64]
    scores: Array


@dataclass(frozen=True)
class ScoreRules:
    """How many predictions of a sample count, and what differs from class to class.

    `ranges` are the distances, metres, within which each class counts; empty, all count anywhere.
    `half_turn` classes, by index, look the same from behind: their yaw is compared modulo π.
    `undefined` names the errors that a class, by index, has none of.
    """

    kept: int = 50
    ranges: tuple[float, ...] = ()
    half_turn: frozenset[int] = frozenset()
    undefined: tuple[tuple[int, frozenset[str]], ...] = ()


ALIKE = ScoreRules()


@dataclass(frozen=True)
class Score:
    """mAP, NDS, AP by class, and the five mean errors, each of them at most what it is."""

    mean_ap: float
    nds: float
    by_class: tuple[float, ...]
    errors: Mapping[str, float]


def top_predictions(probability: Array, boxes: Array, most: int = MOST_BOXES) -> Boxes:
    """Turn probabilities (S, Q, K) of queries with boxes (S, Q, 9) into the best `most` boxes."""
    samples, queries, classes = probability.shape
    flat = probability.reshape(samples, -1)
    order = np.argsort(-flat, axis=1, kind="stable")[:, : min(most, queries * classes)]
    chosen = np.take_along_axis(boxes, (order // classes)[..., None], axis=1)
    return Boxes(chosen, order % classes, np.take_along_axis(flat, order, axis=1))


def detection_score(
    predicted: Boxes, truth: Boxes, classes: int, rules: ScoreRules = ALIKE
) -> Score:
    """Return the score of predictions; a class that no sample holds does not count."""
    predicted, truth = _within(predicted, rules), _within(truth, rules)
    precisions, errors = [], []
    for kind in range(classes):
        if not bool((truth.classes == kind).any()):
            continue
        matches = {distance: _match(predicted, truth, kind, distance) for distance in DISTANCES}
        total = int((truth.classes == kind).sum())
        precisions.append([_average_precision(matches[d], total) for d in DISTANCES])
        period = np.pi if kind in rules.half_turn else 2.0 * np.pi
        mine = _errors(matches[ERROR_DISTANCE], predicted, truth, total, period)
        none = dict(rules.undefined).get(kind, frozenset())
        errors.append([math.nan if n in none else e for n, e in zip(ERRORS, mine, strict=True)])
    by_class = tuple(float(np.mean(by_distance)) for by_distance in precisions)
    mean_ap = float(np.mean(by_class)) if by_class else float("nan")
    mean = _mean_by_error(np.array(errors).reshape(-1, len(ERRORS)))
    nds = (5.0 * mean_ap + float((1.0 - np.minimum(1.0, mean)).sum())) / 10.0
    return Score(mean_ap, nds, by_class, dict(zip(ERRORS, mean.tolist(), strict=True)))


def _within(boxes: Boxes, rules: ScoreRules) -> Boxes:
    """Leave out, as class -1, what is farther away than its class counts."""
    if not rules.ranges:
        return boxes
    away = np.linalg.norm(boxes.boxes[..., :2], axis=-1)
    limit = np.append(rules.ranges, 0.0)[boxes.classes]  # class -1, which is none, takes the last
    return replace(boxes, classes=np.where(away < limit, boxes.classes, -1))


def _mean_by_error(errors_KE: Array) -> Array:
    """Return the mean of each error over the classes that have it; NaN where none has."""
    known = ~np.isnan(errors_KE)
    count = known.sum(axis=0)
    total = np.where(known, errors_KE, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


@dataclass(frozen=True)
class _Matches:
    """Predictions of a class by falling score: sample, index, score, and the box hit or -1."""

    sample: NDArray[np.int64]
    index: NDArray[np.int64]
    score: Array
    box: NDArray[np.int64]


def _match(predicted: Boxes, truth: Boxes, kind: int, distance: float) -> _Matches:
    """Give each prediction, best first, the nearest box of its class that is still free."""
    score = np.where(predicted.classes == kind, predicted.scores, -np.inf)
    order = np.argsort(-score, axis=1, kind="stable")
    ranked = np.take_along_axis(score, order, axis=1)
    centre = np.take_along_axis(predicted.boxes[..., :2], order[..., None], axis=1)
    apart = np.linalg.norm(centre[:, :, None] - truth.boxes[:, None, :, :2], axis=-1)
    free = truth.classes == kind
    samples = np.arange(len(score))
    hit = np.full(score.shape, -1)
    for rank in range(int((ranked > -np.inf).sum(axis=1).max(initial=0))):
        gap = np.where(free, apart[:, rank], np.inf)
        nearest = np.argmin(gap, axis=1)
        good = (gap[samples, nearest] < distance) & (ranked[:, rank] > -np.inf)
        hit[good, rank] = nearest[good]
        free[samples[good], nearest[good]] = False
    sample, rank_index = np.nonzero(ranked > -np.inf)
    by_score = np.argsort(-ranked[sample, rank_index], kind="stable")
    sample, rank_index = sample[by_score], rank_index[by_score]
    return _Matches(
        sample, order[sample, rank_index], ranked[sample, rank_index], hit[sample, rank_index]
    )


def _recall(matches: _Matches, total: int) -> tuple[Array, Array]:
    right = np.cumsum(matches.box >= 0).astype(np.float64)
    return right / total, right / np.arange(1, len(right) + 1)


def _average_precision(matches: _Matches, total: int) -> float:
    if not bool((matches.box >= 0).any()):
        return 0.0
    recall, precision = _recall(matches, total)
    over = np.interp(RECALLS, recall, precision, right=0.0)[round(100 * LEAST) + 1 :] - LEAST
    return float(np.maximum(over, 0.0).mean() / (1.0 - LEAST))


def _errors(
    matches: _Matches, predicted: Boxes, truth: Boxes, total: int, period: float
) -> list[float]:
    """Return the mean errors of matches, over recalls from a tenth to the largest; 1 if none."""
    hit = matches.box >= 0
    if not bool(hit.any()):
        return [1.0] * len(ERRORS)
    recall, _ = _recall(matches, total)
    confidence = np.interp(RECALLS, recall, matches.score, right=0.0)
    first, last = round(100 * LEAST) + 1, int(np.max(np.flatnonzero(confidence), initial=0))
    if last < first:
        return [1.0] * len(ERRORS)
    mine = predicted.boxes[matches.sample[hit], matches.index[hit]]
    theirs = truth.boxes[matches.sample[hit], matches.box[hit]]
    results = []
    for error in _of_boxes(mine, theirs, period):
        running = np.cumsum(error) / np.arange(1, len(error) + 1)
        # over falling scores: `interp` wants them rising
        at = np.interp(confidence[::-1], matches.score[hit][::-1], running[::-1])[::-1]
        results.append(float(at[first : last + 1].mean()))
    return results


def _of_boxes(mine: Array, theirs: Array, period: float) -> list[Array]:
    """Return the five errors of matched boxes (N, 9), each (N,), in the order of `ERRORS`.

    `period` is the turn, radians, after which a box looks the same.
    """
    sizes = np.minimum(mine[:, 3:6], theirs[:, 3:6]).prod(axis=1)
    union = mine[:, 3:6].prod(axis=1) + theirs[:, 3:6].prod(axis=1) - sizes
    turn = np.abs((mine[:, 6] - theirs[:, 6] + period / 2.0) % period - period / 2.0)
    moves = [np.linalg.norm(boxes[:, 7:9], axis=1) > MOVING for boxes in (mine, theirs)]
    return [
        np.linalg.norm(mine[:, :2] - theirs[:, :2], axis=1),
        1.0 - sizes / union,
        turn,
        np.linalg.norm(mine[:, 7:9] - theirs[:, 7:9], axis=1),
        (moves[0] != moves[1]).astype(np.float64),
    ]
