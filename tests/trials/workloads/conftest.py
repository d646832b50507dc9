"""What the tests of every system share."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="module")
def switches_put_back():
    """Training asks torch for deterministic algorithms; leave the other tests what they had."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(deterministic)
