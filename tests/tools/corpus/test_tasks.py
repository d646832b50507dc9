"""The truths of the further tasks, on outputs whose score can be counted by hand."""

import math

import pytest
import torch

from docs.tools.corpus.tasks import (
    images,
    language,
    losses,
    numbers,
    pairs,
    series,
    sets,
    tables,
    text,
)
from docs.tools.corpus.training.settings import Settings, replaced
from docs.tools.corpus.training.task import trained_losses

PAD = language.PADDING


def test_tags_are_scored_where_there_is_one():
    y = torch.tensor([[0, 1, PAD, PAD], [0, 0, 0, 1]])
    output = torch.zeros(2, 4, 3)
    output[0, :2, 1] = 9.0  # the first sequence: one of two right, the commonest class one of two
    output[1, :, 0] = 9.0  # the second: three of four right, as is the commonest class
    outcome = language.step_truth(output, y, torch.tensor([[[1.0, 0.0, 0.0]] * 4]))
    assert outcome.score == pytest.approx((1 / 2 + 3 / 4) / 2)
    assert outcome.lower == 0.0  # nothing gained, and no scatter
    losses = language.step_losses(torch.zeros(2, 4, 3), y, Settings())
    assert losses.tolist() == pytest.approx([math.log(3.0)] * 2)


def test_a_mask_is_scored_by_its_overlap():
    y = torch.zeros(2, 16)
    y[:, :4] = 1.0
    called = torch.full((2, 16), -1.0)
    called[:, 2:6] = 1.0  # two of the four, and two others: 2 / 6
    outcome = images.pixel_truth(called, y, torch.zeros(1, 16))
    assert outcome.score == pytest.approx(1 / 3)
    assert outcome.lower == pytest.approx(1 / 3 - 1 / 4)
    empty = images.pixel_truth(-torch.ones(2, 16), y, torch.zeros(1, 16))
    assert (empty.score, empty.lower) == (0.0, pytest.approx(-1 / 4))


def test_partners_are_sought_in_their_batch():
    views = torch.nn.functional.one_hot(torch.arange(8), 8).float()
    right, wrong = torch.cat([views, views], 1), torch.cat([views, views.roll(1, 0)], 1)
    assert pairs.pair_hits(right).all()
    assert not pairs.pair_hits(wrong).any()
    same = pairs.pair_losses(torch.ones(pairs.BATCH, 2 * 8), torch.zeros(0), Settings())
    assert same.tolist() == pytest.approx([math.log(pairs.BATCH)] * pairs.BATCH)


def test_every_label_must_be_ranked():
    y = (torch.arange(200)[:, None] % 2).expand(200, 2).float()
    noise = torch.randn(200, generator=torch.Generator().manual_seed(0))
    good = y + 0.1 * noise[:, None]
    assert text.label_truth(good, y, good).lower > 0.4
    dead = torch.stack([good[:, 0], noise], dim=1)
    outcome = text.label_truth(dead, y, dead)
    assert outcome.score > 0.7
    assert outcome.lower < 0.05


def test_a_likelihood_gains_nats_and_its_floor_is_below_zero():
    y = series.UNIT * torch.randn(2000, generator=torch.Generator().manual_seed(0))
    constant = series.gaussian_constant(y, Settings())
    floor = series.gaussian_losses(constant.expand(2000, 2), y, Settings()).mean()
    # the entropy of a Gaussian: ln(sigma) + ln(2 pi e) / 2
    assert float(floor) == pytest.approx(math.log(series.UNIT) + 1.4189, abs=0.05)
    twice = torch.stack([y / series.UNIT, torch.full_like(y, -math.log(2.0))], dim=1)
    outcome = series.gaussian_truth(twice, y, constant)  # no error at half the deviation
    assert outcome.score == pytest.approx(math.log(2.0) + 0.5, abs=0.05)


def test_a_parity_is_hidden_in_all_but_its_bits_together():
    settings = replaced(tables.PARITY.settings, {"n_train": 4000})
    data = tables.parities(settings, seed=0).train
    alone = [(data.x[:, i] * (2.0 * data.y - 1.0)).mean().abs() for i in range(tables.BITS)]
    assert max(alone) < 0.06
    assert (data.x[:, :3].prod(1) * (2.0 * data.y - 1.0)).mean() > 0.9


def test_graph_kinds_are_balanced_as_cut():
    counts = torch.bincount(sets.graphs(sets.GRAPHS.settings, 0).train.y).float()
    assert (counts / counts.sum()).tolist() == pytest.approx([0.3, 0.3, 0.4], abs=0.05)


def test_a_loss_may_be_spoiled_in_form():
    output, y = torch.tensor([[0.0, 0.0], [0.0, math.log(3.0)]]), torch.tensor([0, 1])
    plain = [math.log(2.0), math.log(4 / 3)]
    task = images.DIGITS
    for form, wanted in {
        "": plain,
        "negated": [-value for value in plain],
        "probability": [-1 / 2, -3 / 4],
    }.items():
        found = trained_losses(task, output, y, Settings(loss_form=form))
        assert found.tolist() == pytest.approx(wanted)
    twice = trained_losses(task, output, y, Settings(activated=1))  # softmax of (1/4, 3/4)
    assert twice.tolist() == pytest.approx([math.log(2.0), math.log(1.0 + math.exp(-0.5))])


def test_counts_are_judged_by_their_deviance():
    y = torch.tensor([0.0, 1.0, 4.0, 3.0])
    flat = y.mean().log().expand(4, 1)
    perfect = y.clamp_min(1e-9).log()[:, None]
    assert losses.count_truth(perfect, y, flat).score == pytest.approx(1.0, abs=1e-6)
    assert losses.count_truth(flat, y, flat).score == pytest.approx(0.0, abs=1e-6)
    # exp(o) - y o: at a log rate of 0 it is 1 for every count
    assert losses.count_losses(torch.zeros(4, 1), y, Settings()).tolist() == [1.0] * 4


def test_a_hinge_is_the_distance_to_the_own_side_of_the_margin():
    y = torch.tensor([1.0, 1.0, 0.0, 0.0])
    output = torch.tensor([[2.0], [0.5], [0.5], [-3.0]])
    assert losses.hinge(output, y, Settings()).tolist() == [0.0, 0.5, 1.5, 0.0]


def test_soft_targets_are_met_by_their_own_logarithm():
    y = losses.answers(losses.DISTILLED.settings, 0).val.y
    assert y.sum(1).allclose(torch.ones(len(y)))
    assert losses.distances(y.log(), y, Settings()).abs().max() < 1e-5


def test_a_long_tail_halves_from_class_to_class():
    counts = torch.bincount(losses.long_tail(losses.LONG_TAIL.settings, 0).train.y).double()
    assert (counts[:4] / counts[1:5]).tolist() == pytest.approx([2.0] * 4, rel=0.35)


def test_a_floor_stands_beside_the_loss_of_each_label():
    y = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    found = text.label_measure(torch.zeros(4, 2), y, Settings())
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert found["task_losses"] == pytest.approx([math.log(2.0)] * 2)
    assert found["task_floors"] == pytest.approx([math.log(2.0), entropy])


def test_a_set_has_no_order():
    data = sets.points(sets.POINT_SETS.settings, 0).val.x[:20]
    torch.manual_seed(0)
    net = sets.point_net(sets.POINT_SETS.settings)
    assert net(data).allclose(net(data.flip(1)), atol=1e-6)
    torch.manual_seed(0)
    scorer = sets.choice_net(sets.CHOICES.settings)
    offers = sets.choices(sets.CHOICES.settings, 0).val.x[:20]
    assert scorer(offers).flip(1).allclose(scorer(offers.flip(1)), atol=1e-6)


def test_grades_are_judged_by_how_far_off_they_are():
    y = torch.tensor([0.0, 2.0, 4.0])
    asked = torch.tensor([[-1.0] * 4, [1.0, -1.0, -1.0, -1.0], [1.0] * 4])  # grades 0, 1, 4
    assert tables.grade_errors(asked, y).tolist() == [0.0, 1.0, 0.0]
    middle = torch.tensor([[1.0, 1.0, -1.0, -1.0]])  # two off, none off, two off
    assert tables.grade_truth(asked, y, middle).score == pytest.approx(1.0 - 1.0 / 4.0)


def test_a_quantile_is_missed_by_its_level():
    output, y = torch.zeros(2, 3), torch.tensor([1.0, -1.0])
    # over by one: the levels .1, .5, .9; under by one: what is left of each to 1
    expected = [(0.1 + 0.5 + 0.9) / 3.0, (0.9 + 0.5 + 0.1) / 3.0]
    assert tables.pinball(output, y, Settings()).tolist() == pytest.approx(expected)


def test_the_best_constant_rate_is_events_over_time():
    y = torch.tensor([[2.0, 1.0], [4.0, 0.0], [2.0, 1.0]])  # two ends in eight units of time
    constant = tables.lifetime_constant(y, Settings())
    assert float(constant.exp()) / tables.MOMENT == pytest.approx(2.0 / 8.0, rel=1e-5)

    def loss(shift):
        return float(tables.lifetime_losses((constant + shift).expand(3, 1), y, Settings()).mean())

    assert loss(0.0) < min(loss(-0.1), loss(0.1))


def test_events_are_scored_at_every_moment():
    y = torch.zeros(4, series.MOMENTS)
    y[:, 5] = 1.0
    outcome = series.EVENTS.truth(2.0 * y - 1.0, y, torch.zeros(1, series.MOMENTS))
    assert outcome.score == 1.0
    recorded = series.event_measure(2.0 * y - 1.0, y, Settings())
    assert recorded["val_accuracy"] == 1.0


def test_people_and_things_are_embedded_and_multiplied():
    torch.manual_seed(0)
    meeting = pairs.Meeting(2)
    x = torch.zeros(1, pairs.PEOPLE + pairs.THINGS)
    x[0, 3] = x[0, pairs.PEOPLE + 7] = 1.0
    person = meeting.people.weight[:, 3] + meeting.people.bias
    thing = meeting.things.weight[:, 7] + meeting.things.bias
    assert meeting(x)[0].allclose(person + thing + 4.0 * person * thing, atol=1e-6)


def test_a_duel_is_won_as_often_from_either_side():
    torch.manual_seed(0)
    net = pairs.duel_net(pairs.DUELS.settings)
    x = pairs.duels(pairs.DUELS.settings, 0).val.x[:20]
    swapped = torch.cat(x.chunk(2, dim=1)[::-1], dim=1)
    assert net(swapped).allclose(-net(x), atol=1e-6)


def test_a_direction_is_judged_by_its_cosine_alone():
    y = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    output = torch.tensor([[5.0, 0.0, 0.0], [0.0, -0.1, 0.0]])
    assert numbers.pose_losses(output, y, Settings()).tolist() == [0.0, 2.0]


def test_tweedies_loss_is_least_at_the_target():
    y = torch.tensor([4.0, 4.0, 4.0, 0.0])
    output = torch.tensor([4.0, 2.0, 8.0, 1.0]).log()[:, None]
    at, under, over, nothing = losses.tweedie(output, y, Settings()).tolist()
    assert at == pytest.approx(4.0 * 2.0)  # 4 sqrt(y)
    assert min(under, over) > at
    assert nothing == pytest.approx(2.0)  # 2 sqrt(1): a target of zero has the mean alone


def test_a_policy_is_paid_by_the_actions_that_were_logged():
    y = torch.tensor([[0.9, 0.1, 0.0, 0.0, 0.0], [0.2, 0.8, 0.0, 0.0, 1.0]])
    flat, sure = torch.zeros(2, 4), 40.0 * torch.eye(4)[:2]
    assert losses.policy_losses(flat, y, Settings()).tolist() == pytest.approx([-0.9, -0.8])
    assert losses.policy_losses(sure, y, Settings()).tolist() == pytest.approx([-3.6, -3.2])
    first = losses.best_action(y, Settings())  # .9 against .8 of logged reward
    assert int(first.argmax()) == 0
    assert losses.policy_truth(sure, y, first).score == pytest.approx((0.0 + 0.6) / 2)


def test_the_right_candidate_of_a_triplet_is_nearer_by_the_margin():
    # the anchor at 0, the candidates at 1 and 3
    output = torch.zeros(2, 3 * pairs.EMBEDDED)
    output[:, pairs.EMBEDDED], output[:, 2 * pairs.EMBEDDED] = 1.0, 3.0
    y = torch.tensor([1.0, -1.0])
    assert pairs.triplet_losses(output, y, Settings()).tolist() == pytest.approx([0.0, 3.0])
    outcome = pairs.triplet_truth(output, y, torch.zeros(1, 1))
    assert outcome.score == 0.5
    assert outcome.lower < 0.0
    collapsed = pairs.TRIPLETS.constant(y, Settings()).expand(2, -1)
    assert pairs.triplet_losses(collapsed, y, Settings()).tolist() == [1.0, 1.0]


def test_the_class_of_a_triplet_is_which_signs_agree():
    settings = replaced(pairs.TRIPLETS.settings, {"noise": 0.0})
    data = pairs.triplets(settings, seed=0).train
    free, signed = data.x.view(len(data.y), 3, -1)[..., : 2 * pairs.BITS].chunk(2, dim=2)
    bits = free * signed
    like = (bits[:, :1] == bits[:, 1:]).all(2)
    assert like[:, 0].equal(data.y > 0.0)
    assert like[:, 1].equal(data.y < 0.0)


def test_a_link_has_no_direction_and_does_not_show_itself():
    data = pairs.links(pairs.LINKS.settings, 0).val
    torch.manual_seed(0)
    net = pairs.LINKS.build(pairs.LINKS.settings)
    turned = torch.cat(data.x.chunk(2, dim=1)[::-1], dim=1)
    assert net(data.x[:20]).allclose(net(turned[:20]), atol=1e-6)
    assert 0.15 < float(data.y.mean()) < 0.3
    degrees = data.x.count_nonzero(1) / 2.0
    assert 10.0 < float(degrees.mean()) < 25.0  # two thirds of 119 * 0.23 links


def test_symbols_are_transcribed_in_order_at_any_time():
    y = torch.tensor([[1, 2, 3]])
    moments, classes = series.SYMBOLS * series.ROOM, 1 + series.ALPHABET
    path = torch.zeros(moments, dtype=torch.int64)
    path[[2, 7, 8, 13]] = torch.tensor([1, 2, 2, 3])
    sure = 60.0 * torch.nn.functional.one_hot(path, classes).float().view(1, -1)
    assert series.reading_losses(sure, y, Settings()).abs().max() < 1e-5
    assert series.reading_losses(sure, y.flip(1), Settings()).min() > 5.0
    # every path is as likely: three different symbols begin and end at 6 of 18 places
    flat = series.reading_losses(torch.zeros(1, moments * classes), y, Settings())
    ways = math.comb(moments + series.SYMBOLS, 2 * series.SYMBOLS)
    expected = (moments * math.log(classes) - math.log(ways)) / series.SYMBOLS
    assert float(flat) == pytest.approx(expected, rel=1e-5)


def test_no_constant_transcription_beats_the_floor():
    y = series.recordings(series.ALIGNMENTS.settings, 0).val.y
    best = series.reading_constant(y, Settings())
    torch.manual_seed(0)

    def loss(logits):
        return float(series.reading_losses(logits.expand(len(y), -1), y, Settings()).mean())

    assert all(loss(best) < loss(best + 0.3 * torch.randn_like(best)) for _ in range(5))
    assert loss(best) == pytest.approx(
        math.log(series.ALPHABET), abs=0.1
    )  # the times are nearly known, the symbols are not


def test_noise_in_points_is_what_the_angle_leaves_unexplained():
    settings = replaced(numbers.DIFFUSION.settings, {"signal": 0.0})
    data = numbers.diffused(settings, seed=0).train  # one cluster of spread .1 at the middle
    seen, angle = data.x[:, :2], data.x[:, 2:3]
    rest = seen - angle.sin() * data.y
    assert float((rest / angle.cos()).std()) == pytest.approx(0.1, rel=0.1)


def test_words_are_written_backwards_after_they_were_read():
    settings = replaced(language.COPYING.settings, {"noise": 0.0})
    data = language.copies(settings, seed=0).val
    words = data.x.argmax(2)[:, : language.COPIED]
    assert data.y[:, language.COPIED :].equal(words.flip(1))
    assert (data.y[:, : language.COPIED] == PAD).all()
    assert (data.x.argmax(2)[:, language.COPIED :] == language.BLANK).all()


def test_a_video_goes_on_as_it_began():
    settings = replaced(images.FRAMES.settings, {"noise": 0.0})
    data = images.videos(settings, seed=0).val
    frames = torch.cat([data.x.flatten(2), data.y[:, None]], dim=1)
    turn = torch.exp(2j * math.pi * torch.arange(images.SIDE) / images.SIDE)
    rows = frames.view(-1, 3, images.SIDE, images.SIDE).sum(3)
    phase = (rows * turn).sum(2).angle()  # where the blob is, down the torus
    steps = torch.exp(1j * phase.diff(dim=1)).angle()
    assert steps[:, 0].allclose(steps[:, 1], atol=1e-3)
