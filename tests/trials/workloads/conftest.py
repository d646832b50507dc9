"""What the tests of every system share."""

import pytest
import torch

from sickbay.trials.store import pretrained


@pytest.fixture(autouse=True, scope="module")
def switches_put_back():
    """Training asks torch for deterministic algorithms; leave the other tests what they had."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture(autouse=True, scope="module")
def pretrained_states(tmp_path_factory):
    """Keep tiny pretrained states in a folder of the file's tests, not in the user's."""
    folder = tmp_path_factory.mktemp("pretrained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrained, "kept_in", lambda: folder)
        yield folder
