"""Every determinism switch, set at the start of each trial, and the choice of a device.

Torch is set up only where the process has loaded it: a workload in numpy should not wait for it.
"""

import os
import random
import sys

import numpy as np


def seed_everything(seed: int, threads: int = 1) -> None:
    """Make what follows in this process depend on `seed` alone, whatever ran in it before.

    Seeds Python's, numpy's and (once imported) torch's global generators, asks torch for
    deterministic algorithms (an operation that has none raises RuntimeError), fixes the number of
    threads (sums are taken in another order with another number), and settles what earlier code may
    have left otherwise: default dtype, denormals, TF32, cuDNN's search, gradient mode.
    """
    # cuBLAS reads this when its first handle is made; without it deterministic matmuls raise.
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the global generator is what users' code may draw from
    if "torch" in sys.modules:
        _settle_torch(seed, threads)


def pick_device(gpus: float) -> str:
    """Return "cuda" if a share of a GPU was granted and torch sees one, else "cpu"."""
    if gpus <= 0.0:
        return "cpu"
    import torch  # noqa: PLC0415 - seconds that a trial on the CPU need not wait

    return "cuda" if torch.cuda.is_available() else "cpu"


def gpu_memory_gib() -> float:
    """Memory of the first GPU that this process sees, in GiB."""
    import torch  # noqa: PLC0415 - on a worker that was given a GPU

    return float(torch.cuda.get_device_properties(0).total_memory) / 2**30


def _settle_torch(seed: int, threads: int) -> None:
    import torch  # noqa: PLC0415 - loaded already, or we would not be here

    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(mode=True)
    # Filling fresh memory helps only code that reads it unwritten, and costs a fifth of a trial.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.set_grad_enabled(mode=True)
    torch.autograd.set_detect_anomaly(mode=False)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False


def epoch_stream(seed: int, epoch: int) -> int:
    """Return a seed for an epoch's random draws.

    A loop that seeds its generators anew at each epoch needs no generator's state in a checkpoint:
    restored at an epoch, it goes on bit for bit as it would have.
    """
    return (seed * 1_000_003 + epoch) % 2**62


def dropout_stream(stream: int) -> int:
    """Return a seed for torch's global generator beside one that is seeded with `stream` itself.

    It differs in the lowest 32 bits, the only ones that torch's generator on the CPU reads: of two
    seeds that differ above them the draws would be the same.
    """
    return stream ^ 2**31
