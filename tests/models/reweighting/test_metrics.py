"""AP and NDS against an implementation that follows the definitions one prediction at a time."""

import math

import numpy as np
import pytest

from sickbay.models.reweighting.metrics import (
    ERRORS,
    Boxes,
    ScoreRules,
    detection_score,
    top_predictions,
)

CLASSES = 3


def overlap_of_sizes(size, other):
    """IoU of two boxes put onto each other."""
    common = math.prod(min(a, b) for a, b in zip(size, other, strict=True))
    return common / (math.prod(size) + math.prod(other) - common)


def greedy(predicted, truth, kind, distance):
    """All predictions of a class, best first; each takes the nearest box that is left."""
    listed = [
        (-predicted.scores[s, i], s, i)
        for s in range(len(predicted.scores))
        for i in range(predicted.scores.shape[1])
        if predicted.classes[s, i] == kind
    ]
    taken, results = set(), []
    for negative, s, i in sorted(listed):
        best, best_gap = None, math.inf
        for b in range(truth.classes.shape[1]):
            if truth.classes[s, b] != kind or (s, b) in taken:
                continue
            gap = math.dist(predicted.boxes[s, i, :2], truth.boxes[s, b, :2])
            if gap < best_gap:
                best, best_gap = b, gap
        good = best is not None and best_gap < distance
        if good:
            taken.add((s, best))
        results.append((-negative, s, i, best if good else None))
    return results


def at_recalls(results, total):
    """Precision and confidence at 101 recalls, linear between the points, 0 past the last."""
    hits, recalls, precisions, scores = 0, [], [], []
    for count, (score, _, _, box) in enumerate(results, start=1):
        hits += box is not None
        recalls.append(hits / total)
        precisions.append(hits / count)
        scores.append(score)
    grid = [step / 100 for step in range(101)]
    return (
        np.interp(grid, recalls, precisions, right=0.0),
        np.interp(grid, recalls, scores, right=0.0),
    )


def nuscenes(predicted, truth):
    """mAP, NDS and errors by the text of the paper and the devkit's conventions."""
    aps, errors = [], []
    for kind in range(CLASSES):
        total = int((truth.classes == kind).sum())
        if not total:
            continue
        row = []
        for distance in (0.5, 1.0, 2.0, 4.0):
            results = greedy(predicted, truth, kind, distance)
            if all(box is None for *_, box in results):
                row.append(0.0)
                continue
            precision, _ = at_recalls(results, total)
            row.append(sum(max(p - 0.1, 0.0) for p in precision[11:]) / 90 / 0.9)
        aps.append(row)
        results = greedy(predicted, truth, kind, 2.0)
        errors.append(errors_of(results, predicted, truth, total))
    mean_ap = float(np.mean(aps))
    mean_errors = np.mean(errors, axis=0)
    return mean_ap, (5 * mean_ap + sum(1 - min(1, e) for e in mean_errors)) / 10, mean_errors


def errors_of(results, predicted, truth, total):
    matched = [(score, s, i, b) for score, s, i, b in results if b is not None]
    if not matched:
        return [1.0] * 5
    _, confidence = at_recalls(results, total)
    last = max((k for k in range(101) if confidence[k] > 0), default=0)
    if last < 11:
        return [1.0] * 5
    lists = [[] for _ in range(5)]
    for _, s, i, b in matched:
        mine, theirs = predicted.boxes[s, i], truth.boxes[s, b]
        turn = abs(mine[6] - theirs[6]) % (2 * math.pi)
        moves = [math.hypot(box[7], box[8]) > 0.2 for box in (mine, theirs)]
        values = (
            math.dist(mine[:2], theirs[:2]),
            1 - overlap_of_sizes(mine[3:6], theirs[3:6]),
            min(turn, 2 * math.pi - turn),
            math.dist(mine[7:9], theirs[7:9]),
            float(moves[0] != moves[1]),
        )
        for values_of, value in zip(lists, values, strict=True):
            values_of.append(value)
    scores = [score for score, *_ in matched]
    results_of = []
    for values in lists:
        running = [np.mean(values[: n + 1]) for n in range(len(values))]
        curve = [np.interp(c, scores[::-1], running[::-1]) for c in confidence]
        results_of.append(np.mean(curve[11 : last + 1]))
    return results_of


def drawn(seed, samples=12, boxes=4, predictions=9, spread=0.7):
    rng = np.random.default_rng(seed)
    truth = np.concatenate(
        [
            rng.uniform(-10, 10, (samples, boxes, 3)),
            rng.uniform(0.5, 4, (samples, boxes, 3)),
            rng.uniform(-3, 3, (samples, boxes, 1)),
            rng.normal(0, 1, (samples, boxes, 2)) * (rng.random((samples, boxes, 1)) < 0.6),
        ],
        axis=-1,
    )
    classes = rng.integers(-1, CLASSES, (samples, boxes))
    near = truth[:, rng.integers(boxes, size=predictions)]
    guess = near + rng.normal(0, spread, near.shape) * np.array([1, 1, 1, 0.1, 0.1, 0.1, 1, 1, 1])
    guess[..., 3:6] = np.abs(guess[..., 3:6])
    kinds = rng.integers(0, CLASSES, (samples, predictions))
    scores = rng.random((samples, predictions))
    return Boxes(guess, kinds, scores), Boxes(truth, classes, np.ones(classes.shape))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("spread", [0.2, 0.7, 2.0])
def test_scores_are_those_of_the_plain_definition(seed, spread):
    predicted, truth = drawn(seed, spread=spread)
    mean_ap, nds, errors = nuscenes(predicted, truth)
    score = detection_score(predicted, truth, CLASSES)
    assert score.mean_ap == pytest.approx(mean_ap, abs=1e-12)
    assert score.nds == pytest.approx(nds, abs=1e-12)
    assert list(score.errors.values()) == pytest.approx(list(errors), abs=1e-12)
    assert tuple(score.errors) == ERRORS


def test_perfect_predictions_score_one():
    _, truth = drawn(0)
    kinds = np.where(truth.classes < 0, 0, truth.classes)
    scores = np.where(truth.classes < 0, 0.1, 0.9)
    boxes = truth.boxes.copy()
    boxes[truth.classes < 0, :2] += 1e6  # nowhere near anything
    score = detection_score(Boxes(boxes, kinds, scores), truth, CLASSES)
    assert score.mean_ap == pytest.approx(1.0, abs=0.005)
    assert score.nds == pytest.approx(1.0, abs=0.005)
    assert score.by_class == pytest.approx((1.0, 1.0, 1.0), abs=0.01)


def test_nothing_found_scores_nothing():
    predicted, truth = drawn(0)
    far = Boxes(predicted.boxes + 1e4, predicted.classes, predicted.scores)
    score = detection_score(far, truth, CLASSES)
    assert score.mean_ap == 0.0
    assert score.nds == 0.0
    assert set(score.errors.values()) == {1.0}


def test_two_predictions_of_one_box_are_one_right_and_one_wrong():
    truth = Boxes(np.ones((1, 1, 9)), np.zeros((1, 1), int), np.ones((1, 1)))
    once = Boxes(np.ones((1, 1, 9)), np.zeros((1, 1), int), np.array([[0.9]]))
    twice = Boxes(np.ones((1, 2, 9)), np.zeros((1, 2), int), np.array([[0.9, 0.8]]))
    assert detection_score(once, truth, 1).mean_ap == pytest.approx(1.0)
    assert detection_score(twice, truth, 1).mean_ap == pytest.approx(1.0, abs=0.01)
    wrong_first = Boxes(
        np.stack([[np.full(9, 50.0), np.ones(9)]]), np.zeros((1, 2), int), twice.scores
    )
    assert detection_score(wrong_first, truth, 1).mean_ap < 0.6


def test_a_class_that_no_sample_holds_does_not_count():
    predicted, truth = drawn(3)
    without = Boxes(truth.boxes, np.where(truth.classes == 1, -1, truth.classes), truth.scores)
    score = detection_score(predicted, without, CLASSES)
    assert len(score.by_class) == 2
    none = detection_score(predicted, Boxes(truth.boxes, truth.classes * 0 - 1, truth.scores), 3)
    assert math.isnan(none.mean_ap)


def test_the_best_of_queries_and_classes_are_kept():
    probability = np.array([[[0.1, 0.7], [0.6, 0.2]]])
    boxes = np.stack([np.stack([np.zeros(9), np.ones(9)])])
    kept = top_predictions(probability, boxes, 3)
    assert kept.scores.tolist() == [[0.7, 0.6, 0.2]]
    assert kept.classes.tolist() == [[1, 0, 1]]
    assert kept.boxes[0, :, 0].tolist() == [0.0, 1.0, 1.0]


def test_the_rules_of_a_class_bound_its_range_halve_its_turn_and_leave_errors_out():
    """Two classes, a box each at 20 m and one of the first at 45 m; hand-worked."""
    near, far = [20.0, 0, 0, 2, 4, 1.5, 0.1, 0, 0], [0, 45.0, 0, 2, 4, 1.5, 0, 0, 0]
    other = [-20.0, 0, 0, 1, 1, 1, 0, 3.0, 0]
    truth = Boxes(np.array([[near, far, other]]), np.array([[0, 0, 1]]), np.ones((1, 3)))
    turned = [*near[:6], 0.1 + np.pi, 0, 0]
    still = [*other[:7], 0.0, 0]
    predicted = Boxes(np.array([[turned, still]]), np.array([[0, 1]]), np.array([[0.9, 0.8]]))
    plain = detection_score(predicted, truth, 2)
    assert plain.by_class[0] < 0.5  # the far box is missed
    assert plain.errors["orientation"] == pytest.approx(np.pi / 2)  # the mean of π and 0
    rules = ScoreRules(
        ranges=(40.0, 30.0),
        half_turn=frozenset({0}),
        undefined=((1, frozenset({"velocity", "attribute", "orientation"})),),
    )
    ruled = detection_score(predicted, truth, 2, rules)
    assert ruled.mean_ap == pytest.approx(1.0)
    assert ruled.errors["orientation"] == pytest.approx(0.0, abs=1e-9)  # of the first class alone
    assert ruled.errors["velocity"] == pytest.approx(0.0, abs=1e-9)
    assert plain.errors["velocity"] == pytest.approx(1.5)
    assert ruled.nds == pytest.approx(1.0)
