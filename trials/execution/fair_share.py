"""Fair shares of a cluster for sweeps that run on it side by side, without a scheduler of ours.

Each driver states in the store what it could use, computes all shares from the same list, and keeps
to its own number of trials: the sweep with the least so far, relative to its priority, gets the
next (weighted dominant resource fairness, Ghodsi et al. 2011, in whole trials).
"""

import heapq
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from sickbay.trials.events import Event, ResourceError, TrialEnded
from sickbay.trials.execution.machine.packing import gpu_share

LOOK_SECONDS = 2.0
ROUNDING = 1e-6  # of sums of cores and fractions of GPUs
# What a sweep that is alone lets wait at Ray, beside what runs: so that a cluster which can grow
# does, and so little that a sweep which joins it need not wait for long.
LEAST_WAITING, WAITING_SHARE = 2, 0.5


@dataclass(frozen=True)
class TrialShare:
    """What one trial gets of the cluster."""

    cpu: float = 1.0
    gpu: float = 0.0


def gpu_fraction(total: float, wanted: float) -> float:
    """Largest share 1/n of a GPU of `total` GiB that leaves each of n trials `wanted` GiB.

    Raises ResourceError if not even one trial fits.
    """
    if wanted > total:
        raise ResourceError(
            f"resources.gpu_memory: a trial needs {wanted:g} GiB and the GPU has {total:.1f} GiB"
        )
    return gpu_share(int(total / wanted))


@dataclass(frozen=True)
class Claim:
    """What a driver could use: at most `wanted` trials at once, each of `cpu` cores and `gpu` GPUs.

    `cluster` is Ray's own address, `priority` how many parts it gets where others have one.
    """

    cluster: str
    priority: int
    cpu: float
    gpu: float
    wanted: int

    @property
    def needs(self) -> dict[str, float]:
        """What one trial takes, by Ray's names."""
        return {"CPU": self.cpu, "GPU": self.gpu}


def caps(claims: Mapping[str, Claim], total: Mapping[str, float]) -> dict[str, int]:
    """How many trials each sweep may run at once on a cluster that has `total` (CPU, GPU).

    At least 1 each, at most what it wants, together no more than fits (but for those first ones).
    """
    parts = dict.fromkeys(claims, 1)
    free = {
        kind: total.get(kind, 0.0) - sum(claim.needs[kind] for claim in claims.values())
        for kind in ("CPU", "GPU")
    }
    costs = {name: _dominant(claim, total) for name, claim in claims.items()}
    queue = [(2 * costs[name] / claim.priority, name) for name, claim in claims.items()]
    heapq.heapify(queue)
    while queue:
        _, name = heapq.heappop(queue)
        claim = claims[name]
        fits = all(n == 0 or n <= free[kind] + ROUNDING for kind, n in claim.needs.items())
        if parts[name] >= claim.wanted or not fits:
            continue  # for good, as what is free only shrinks
        parts[name] += 1
        for kind, n in claim.needs.items():
            free[kind] -= n
        heapq.heappush(queue, ((parts[name] + 1) * costs[name] / claim.priority, name))
    return parts


def _dominant(claim: Claim, total: Mapping[str, float]) -> float:
    """The part of the cluster that one trial takes of what it takes most of."""
    return max(n / total[kind] if total.get(kind) else 0.0 for kind, n in claim.needs.items())


class FairShare:
    """Keeps one sweep to its part; while it is alone on its cluster that is all of it, and a queue.

    `others` are the claims of the other drivers as last seen, `tell` makes one's own known.
    """

    def __init__(
        self,
        sweep_id: str,
        mine: Claim,
        others: Callable[[], Mapping[str, Claim]],
        tell: Callable[[Claim], None],
        total: Callable[[], Mapping[str, float]],
    ) -> None:
        """Make the claim known."""
        self._sweep_id, self._mine = sweep_id, mine
        self._others, self._tell, self._total = others, tell, total
        self._first_cores = total().get("CPU", 0.0)
        self._cap = 1  # until the others have been looked for
        self._looked = 0.0
        tell(mine)

    def see(self, event: Event) -> None:
        """Take in an event: what has ended is not wanted any more."""
        if isinstance(event, TrialEnded):
            self._mine = replace(self._mine, wanted=max(1, self._mine.wanted - 1))
            self._tell(self._mine)

    def most(self) -> int:
        """How many trials this sweep may have on the cluster at this moment."""
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self._looked = time.monotonic()
            self._cap = self._part()
        return self._cap

    def _part(self) -> int:
        cluster = self._mine.cluster
        others = {name: claim for name, claim in self._others().items() if claim.cluster == cluster}
        total = self._total()
        part = caps({**others, self._sweep_id: self._mine}, total)[self._sweep_id]
        if not others:
            return part + max(LEAST_WAITING, int(WAITING_SHARE * part))
        # A cluster that has grown may grow again, if it sees that a trial waits.
        return part + (total.get("CPU", 0.0) > self._first_cores)
