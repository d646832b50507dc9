"""The optimizer without a schedule, against its recurrence written out by hand."""

import numpy as np
import torch

from docs.tools.corpus.training.optimizers import ScheduleFree


def test_schedule_free_steps_follow_the_recurrence():
    weight = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    optimizer = ScheduleFree([weight], lr=0.1)
    z = x = y = 2.0
    for step in range(1, 6):  # the loss is y²/2, so that its gradient is y
        weight.grad = weight.detach().clone()
        optimizer.step()
        z = z - 0.1 * y
        x = x + (z - x) / step
        y = 0.1 * z + 0.9 * x
        np.testing.assert_allclose(weight.item(), y, rtol=1e-12)
    optimizer.show_average()
    np.testing.assert_allclose(weight.item(), x, rtol=1e-12)
    optimizer.show_iterate()
    np.testing.assert_allclose(weight.item(), y, rtol=1e-12)


def test_a_parameter_without_a_gradient_stays():
    weight = torch.nn.Parameter(torch.ones(2))
    ScheduleFree([weight], lr=0.1).step()
    assert weight.tolist() == [1.0, 1.0]
