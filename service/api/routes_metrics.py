"""Prometheus metrics: outcomes and cost of trials, and the service's own."""

from collections.abc import Callable, Iterator
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sickbay.service.api.auth import need
from sickbay.service.api.cache import StoreCache
from sickbay.service.query.engine import query
from sickbay.service.server.tokens import Role
from sickbay.service.server.workers import Work, in_pool

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
COSTS = """
    SELECT coalesce(label, 'none') AS label, coalesce(pathology, '') AS pathology,
           sum(gpu_seconds) AS gpu, sum(wall_seconds) AS wall
    FROM trials GROUP BY ALL ORDER BY ALL
"""

router = APIRouter(tags=["service"])


class Metrics:
    """The registry of one service, and the histogram of its request times."""

    def __init__(self, cache: StoreCache, listening: Callable[[], int]) -> None:
        """Start all counters at zero."""
        self.registry = CollectorRegistry()
        self.times = Histogram(
            "sickbay_request_seconds",
            "Time to answer a request.",
            ["method", "route", "status"],
            registry=self.registry,
            buckets=BUCKETS,
        )
        self.registry.register(_StoreMetrics(cache, listening))

    def observe(self, method: str, route: str, status: str, seconds: float) -> None:
        """Count an answered request; the labels must come from bounded sets."""
        self.times.labels(method, route, status).observe(seconds)

    def text(self) -> bytes:
        """All metrics as Prometheus reads them."""
        return generate_latest(self.registry)


class _StoreMetrics(Collector):
    """Counts of the store, computed on each scrape."""

    def __init__(self, cache: StoreCache, listening: Callable[[], int]) -> None:
        self._shelf = cache
        self._listening = listening

    def collect(self) -> Iterator[Metric]:
        sweeps = self._shelf.sweeps()
        yield _family(
            "sickbay_trials", "Ended trials by execution state.", "state", _added(sweeps, "states")
        )
        yield _family(
            "sickbay_trials_labelled", "Ended trials by label.", "label", _added(sweeps, "labels")
        )
        yield _family(
            "sickbay_trials_pathological",
            "Pathological trials by primary cause.",
            "pathology",
            _added(sweeps, "pathologies"),
        )
        states: dict[str, float] = {}
        for sweep in sweeps:
            states[sweep["state"]] = states.get(sweep["state"], 0.0) + 1.0
        yield _family("sickbay_sweeps", "Sweeps by state.", "state", states)
        waiting = sum(
            max(0, sweep["planned"] - sweep["ended"])
            for sweep in sweeps
            if sweep["state"] in {"running", "queued"}
        )
        yield _one("sickbay_queue_trials", "Planned trials of live sweeps yet to end.", waiting)
        yield _one("sickbay_event_listeners", "Open event streams.", self._listening())
        yield from self._costs()

    def _costs(self) -> Iterator[Metric]:
        rows = self._shelf.costs(lambda: query(self._shelf.store, COSTS).rows)
        for column, unit in ((2, "gpu"), (3, "wall")):
            total = sum(row[column] or 0.0 for row in rows)
            lost: dict[str, float] = {}
            for row in rows:
                if row[0] == "pathological":
                    lost[row[1]] = lost.get(row[1], 0.0) + (row[column] or 0.0)
            yield _one(f"sickbay_{unit}_seconds", f"{unit} seconds of ended trials.", total)
            yield _family(
                f"sickbay_{unit}_seconds_lost",
                f"{unit} seconds of pathological trials, by primary cause.",
                "pathology",
                lost,
            )


def _family(name: str, text: str, label: str, values: dict[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([key], value)
    return family


def _one(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _added(sweeps: list[dict[str, Any]], name: str) -> dict[str, float]:
    counts: dict[str, float] = {}
    for sweep in sweeps:
        for key, count in sweep[name].items():
            counts[key] = counts.get(key, 0.0) + count
    return counts


@router.get("/metrics", dependencies=[Depends(need(Role.READ))], response_class=Response)
async def metrics(request: Request) -> Response:
    """Metrics in Prometheus' text format."""
    counters: Metrics = request.app.state.metrics
    text = await in_pool(Work.READ, counters.text)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")
