import os

import pytest
import torch
from torch import nn

from sickbay.trials.store.checkpoints import Progress, pack, unpack


def progress(seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    return Progress(net, torch.optim.Adam(net.parameters(), lr=0.1))


def advance(run, steps):
    for _ in range(steps):
        x = torch.linspace(-1, 1, 8).reshape(4, 2) * (run.step + 1)
        run.optimizer.zero_grad()
        run.net(x).square().mean().backward()
        run.optimizer.step()
        run.step += 1
    run.epoch += 1


def test_values_survive_the_trip():
    state = {"weights": torch.arange(3.0), "epoch": 4, "names": ["a", "b"], "nested": {"x": 0.5}}
    again = unpack(pack(state))
    assert torch.equal(again.pop("weights"), state.pop("weights"))
    assert again == state


def test_a_checkpoint_is_a_copy():
    weights = torch.zeros(3)
    kept = pack({"weights": weights})
    weights += 1.0
    assert torch.equal(unpack(kept)["weights"], torch.zeros(3))


def test_going_on_from_a_checkpoint_is_going_straight_on():
    straight = progress()
    advance(straight, 3)
    kept = straight.pack()
    advance(straight, 3)
    resumed = progress(seed=9)
    resumed.resume(kept, "cpu")
    assert (resumed.epoch, resumed.step) == (1, 3)
    advance(resumed, 3)
    states = straight.net.state_dict(), resumed.net.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_without_a_checkpoint_nothing_changes():
    run = progress()
    before = run.net[0].weight.clone()
    run.resume(None, "cpu")
    assert torch.equal(run.net[0].weight, before)
    assert run.epoch == 0


@pytest.mark.parametrize("data", [b"", b"nonsense", pack({"a": torch.ones(2)})[:60]])
def test_bytes_that_are_no_checkpoint_are_refused(data):
    with pytest.raises(ValueError, match=rf"these {len(data)} bytes are no checkpoint"):
        unpack(data)


class Evil:
    def __reduce__(self):
        return os.system, ("echo executed > executed.txt",)


def test_a_checkpoint_cannot_execute_anything(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="no checkpoint of ours"):
        unpack(pack({"evil": Evil()}))
    assert not (tmp_path / "executed.txt").exists()


def test_a_checkpoint_must_be_a_mapping():
    import io

    buffer = io.BytesIO()
    torch.save([1, 2], buffer)
    with pytest.raises(ValueError, match="holds a mapping, this one a list"):
        unpack(buffer.getvalue())
