"""The Ray that trials run on: connect to it, what it has, what one trial gets of it."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import ray

from sickbay.trials.events import ResourceError
from sickbay.trials.execution.fair_share import TrialShare, gpu_fraction
from sickbay.trials.seeding import gpu_memory_gib


@dataclass(frozen=True)
class Cluster:
    """Where to run: at an address, or (None) on a local Ray with `cpus` cores, None meaning all."""

    address: str | None = None
    cpus: int | None = None


@contextlib.contextmanager
def connected(cluster: Cluster) -> Iterator[None]:
    """Connect to a cluster or start a local Ray, and leave it; a present connection is used."""
    if ray.is_initialized():
        yield
        return
    try:
        ray.init(
            # without an address Ray would join whatever cluster was started on this machine last
            address=cluster.address or "local",
            num_cpus=cluster.cpus if cluster.address is None else None,
            include_dashboard=False if cluster.address is None else None,
            log_to_driver=False,
            logging_level="ERROR",
            configure_logging=True,
        )
    except (ValueError, RuntimeError, ConnectionError) as error:
        where = f"at {cluster.address!r}" if cluster.address else "on this machine"
        raise ConnectionError(f"cannot connect to a Ray {where}: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


def share_of(cpu: float, gpu: float | str, gpu_memory: float | None, wanted: float) -> TrialShare:
    """Settle what a trial gets; `gpu` "auto" is `wanted` (or 1) where the cluster has GPUs, else 0.

    With `gpu_memory` (GiB), as many trials share a GPU as that much memory allows.
    """
    has_gpu = ray.cluster_resources().get("GPU", 0.0) > 0
    gpus = float(gpu) if gpu != "auto" else (wanted or 1.0) * has_gpu
    if gpu_memory is not None and gpus > 0 and has_gpu:
        total = ray.get(ray.remote(num_gpus=0.01)(gpu_memory_gib).remote())
        gpus = gpu_fraction(total, gpu_memory)
    return TrialShare(cpu, gpus)


def check_fits(share: TrialShare) -> None:
    """Raise ResourceError if this Ray, which does not grow, can never run even one trial."""
    total = ray.cluster_resources()
    for kind, wanted in (("CPU", share.cpu), ("GPU", share.gpu)):
        if wanted > total.get(kind, 0.0):
            raise ResourceError(
                f"resources.{kind.lower()}: a trial wants {wanted:g} and the local Ray has "
                f"{total.get(kind, 0.0):g}; ask for less, or run on a cluster (--address)"
            )


def cluster_resources() -> dict[str, float]:
    """What the connected Ray has at this moment, by Ray's names."""
    return dict(ray.cluster_resources())


def cluster_address() -> str:
    """The connected Ray's own address, the same for whoever is connected to it."""
    return str(ray.get_runtime_context().gcs_address)
