"""States that trials start from: made once, kept by content, safe among processes."""

import importlib
import itertools
import json
import multiprocessing
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sickbay.models.longtail.network import Encoder
from sickbay.models.longtail.pretraining import pretrain
from sickbay.trials.store import checkpoints
from sickbay.trials.store import pretrained as pretraining
from sickbay.trials.store.pretrained import Recipe, generated, pretrained

RECIPE = Recipe("toy", {"width": 3, "lr": 0.1}, 7, "cpu", (checkpoints,))


def make(log):
    del log
    return {"weight": torch.randn(3), "name": "toy"}


def never(log):
    del log
    raise AssertionError("a kept state was made again")


def test_a_state_is_made_once_and_is_the_same_kept_or_made(tmp_path):
    made = pretrained(RECIPE, make, tmp_path)
    kept = pretrained(RECIPE, never, tmp_path)
    again = pretrained(RECIPE, make, tmp_path / "elsewhere")
    assert torch.equal(made["weight"], kept["weight"])
    assert torch.equal(made["weight"], again["weight"])
    assert kept["name"] == "toy"
    assert [path.name[:4] for path in tmp_path.glob("*.pt")] == ["toy-"]
    assert not list(tmp_path.glob(".*"))


def test_no_two_callers_share_the_tensors(tmp_path):
    first = pretrained(RECIPE, make, tmp_path)
    first["weight"].zero_()
    assert bool(pretrained(RECIPE, never, tmp_path)["weight"].any())


@pytest.mark.parametrize(
    "other",
    [
        replace(RECIPE, name="other"),
        replace(RECIPE, settings={"width": 3, "lr": 0.2}),
        replace(RECIPE, settings={"width": 3, "lr": 0.1, "data": ""}),
        replace(RECIPE, seed=8),
        replace(RECIPE, code=(checkpoints, pretraining)),
    ],
)
def test_whatever_may_change_the_state_changes_its_name(other):
    assert other.digest() != RECIPE.digest()
    assert replace(other).digest() == other.digest()


def test_the_order_of_settings_does_not_matter():
    assert replace(RECIPE, settings={"lr": 0.1, "width": 3}).digest() == RECIPE.digest()


def test_changed_code_makes_another_state(tmp_path):
    import importlib.util

    source = tmp_path / "code_of_today.py"
    source.write_text("X = 1\n")
    module = importlib.util.module_from_spec(
        importlib.util.spec_from_file_location("code_of_today", source)
    )
    before = replace(RECIPE, code=(module,)).digest()
    source.write_text("X = 2\n")
    assert replace(RECIPE, code=(module,)).digest() != before


def test_the_draws_of_the_caller_are_not_disturbed(tmp_path):
    torch.manual_seed(3)
    pretrained(RECIPE, make, tmp_path)
    with_making = torch.rand(2)
    torch.manual_seed(3)
    pretrained(RECIPE, never, tmp_path)
    assert torch.equal(torch.rand(2), with_making)


def test_the_draws_of_the_making_follow_the_recipe_alone(tmp_path):
    torch.manual_seed(1)
    state = pretrained(RECIPE, make, tmp_path / "one")
    torch.manual_seed(2)
    assert torch.equal(pretrained(RECIPE, make, tmp_path / "two")["weight"], state["weight"])


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_file_is_made_anew(tmp_path, damage):
    made = pretrained(RECIPE, make, tmp_path)
    (path,) = tmp_path.glob("*.pt")
    path.write_bytes(path.read_bytes()[:80] if damage is None else damage)
    assert torch.equal(pretrained(RECIPE, make, tmp_path)["weight"], made["weight"])
    assert torch.equal(pretrained(RECIPE, never, tmp_path)["weight"], made["weight"])


def test_where_nothing_can_be_written_it_goes_on_without(tmp_path):
    (tmp_path / "file").write_text("in the way")
    state = pretrained(RECIPE, make, tmp_path / "file" / "below")
    assert state["name"] == "toy"


def _race(folder, barrier, results):
    def counted(log):
        with (Path(folder) / "made.txt").open("a") as file:
            file.write("once\n")
        return make(log)

    barrier.wait()
    results.put(pretrained(RECIPE, counted, Path(folder))["weight"].tolist())


def test_processes_that_need_it_at_once_wait_for_the_one_that_makes_it(tmp_path):
    fork = multiprocessing.get_context("fork")
    barrier, results = fork.Barrier(4), fork.Queue()
    workers = [fork.Process(target=_race, args=(tmp_path, barrier, results)) for _ in range(4)]
    for worker in workers:
        worker.start()
    states = {json.dumps(results.get(timeout=60)) for _ in workers}
    for worker in workers:
        worker.join()
    assert len(states) == 1
    assert (tmp_path / "made.txt").read_text() == "once\n"


STEPS = 12


def train(log, *, stop_at=STEPS, stopped=None):
    """Train an encoder; stand still for good before the step `stop_at`, once `stopped` knows."""
    log.seconds = 0.0
    encoder = Encoder("small")

    def batches():
        for step in itertools.count():
            if step == stop_at:
                stopped.set()
                time.sleep(600)
            draws = torch.Generator().manual_seed(step)
            yield torch.randn(4, 3, 8, 8, generator=draws), torch.arange(4)

    return pretrain(encoder, 4, STEPS, batches(), log)


def _train_until(folder, stopped):
    pretrained(RECIPE, lambda log: train(log, stop_at=7, stopped=stopped), Path(folder))


def test_a_killed_pretraining_is_taken_up_where_it_was(tmp_path):
    whole = pretrained(RECIPE, train, tmp_path / "whole")
    fork = multiprocessing.get_context("fork")
    stopped, folder = fork.Event(), tmp_path / "killed"
    holder = fork.Process(target=_train_until, args=(folder, stopped))
    holder.start()
    assert stopped.wait(60)
    assert list(folder.glob("*.checkpoint"))
    holder.kill()
    holder.join()
    steps = []

    def rest(log):
        steps.append(log.restore()["step"])
        return train(log)

    state = pretrained(RECIPE, rest, folder)
    assert steps == [7]
    assert all(torch.equal(state[name], whole[name]) for name in whole)
    rows = [next(path.glob("*.csv")).read_text() for path in (tmp_path / "whole", folder)]
    assert rows[0] == rows[1]
    assert len(rows[0].splitlines()) == 1 + STEPS
    assert not list(folder.glob("*.checkpoint"))


def test_generated_data_are_made_once_and_the_least_used_go_first(tmp_path, monkeypatch):
    def data(seed, make=None):
        recipe = replace(RECIPE, seed=seed)
        state = generated(recipe, lambda: {"data": make(seed)}, tmp_path)
        return state["data"]

    def drawn(seed):
        return torch.full((1000,), float(seed))

    for seed in range(3):
        assert torch.equal(data(seed, drawn), drawn(seed))
    for age, path in enumerate(sorted(tmp_path.glob("*.pt"), key=os.path.getmtime)):
        os.utime(path, (age, age))
    assert torch.equal(data(0), drawn(0))  # used last
    size = max(path.stat().st_size for path in tmp_path.glob("*.pt"))
    monkeypatch.setattr(pretraining, "DATA_BYTES", 2.5 * size)
    data(3, drawn)
    assert len(list(tmp_path.glob("*.pt"))) == len(list(tmp_path.glob("*.lock"))) == 2
    assert torch.equal(data(0), drawn(0))
    assert torch.equal(data(3), drawn(3))


def test_a_package_stands_for_all_of_its_modules(tmp_path, monkeypatch):
    package = tmp_path / "made_of_two"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "part.py").write_text("X = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    recipe = replace(RECIPE, code=(importlib.import_module("made_of_two"),))
    before = recipe.digest()
    (package / "part.py").write_text("X = 2\n")
    assert recipe.digest() != before
