import random

import numpy as np
import pytest
import torch

from sickbay.trials import seeding
from sickbay.trials.seeding import dropout_stream, epoch_stream, pick_device, seed_everything


@pytest.fixture(autouse=True)
def switches_put_back():
    """Leave torch as the other tests expect it."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


def draws():
    return random.random(), np.random.rand(), float(torch.rand(1))  # noqa: NPY002


def test_a_seed_fixes_all_three_generators():
    seed_everything(3)
    first = draws()
    torch.rand(7)
    seed_everything(3)
    assert draws() == first
    seed_everything(4)
    assert all(a != b for a, b in zip(draws(), first, strict=True))


def test_large_seeds_are_welcome():
    seed_everything(2**40 + 1)
    first = draws()
    seed_everything(2**40 + 1)
    assert draws() == first


def test_what_earlier_code_left_is_settled(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    torch.set_grad_enabled(mode=False)
    torch.set_default_dtype(torch.float64)
    torch.set_flush_denormal(True)
    torch.backends.cudnn.benchmark = True
    torch.use_deterministic_algorithms(mode=False)
    seed_everything(0, threads=1)
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32
    assert float(torch.tensor([1e-310], dtype=torch.float64) * 1.0) != 0.0
    assert not torch.backends.cudnn.benchmark
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == 1
    assert not torch.utils.deterministic.fill_uninitialized_memory  # a fifth of a trial's time
    assert seeding.os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_an_operation_without_a_deterministic_form_raises():
    seed_everything(0)
    with pytest.raises(RuntimeError, match="deterministic"):
        torch.empty(4).put_(torch.tensor([1]), torch.tensor([1.0]), accumulate=False)


def test_a_gpu_is_used_only_where_one_was_granted_and_is_there(monkeypatch):
    assert pick_device(0.0) == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device(0.5) == "cuda"
    assert pick_device(0.0) == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device(1.0) == "cpu"


def test_streams_of_seeds_and_epochs_are_apart():
    streams = {epoch_stream(seed, epoch) for seed in range(50) for epoch in range(200)}
    assert len(streams) == 50 * 200
    assert 0 <= epoch_stream(2**62, 10**6) < 2**62


def test_dropout_draws_apart_from_the_order_of_the_batches():
    for stream in (0, 7, epoch_stream(3, 5), 2**62 - 1):
        order = torch.rand(8, generator=torch.Generator().manual_seed(stream))
        dropout = torch.rand(8, generator=torch.Generator().manual_seed(dropout_stream(stream)))
        assert not torch.equal(order, dropout)
