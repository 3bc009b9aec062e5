"""What `/metrics` counts, in one registry per application."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The server's own figures.

    Attributes:
        requests: Requests answered, by method, route and status.
        seconds: Time until the response was complete, by route; streams are left out.
        streams: Readers that follow a run right now, by protocol (`sse`, `ws`).
        events: Events sent to readers.
        runs: Goals accepted over HTTP.
        uploaded: Bytes taken in as files.
    """

    def __init__(self) -> None:
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.registry = registry
        self.requests = Counter(
            "orchestrion_http_requests", "Requests answered", ["method", "route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "orchestrion_http_request_seconds", "Time to a complete response", ["route"], registry=registry
        )
        self.streams = Gauge("orchestrion_streams_open", "Readers following a run", ["protocol"], registry=registry)
        self.events = Counter("orchestrion_events_sent", "Events sent to readers", registry=registry)
        self.runs = Counter("orchestrion_runs_accepted", "Goals accepted", registry=registry)
        self.uploaded = Counter("orchestrion_uploaded_bytes", "Bytes taken in as files", registry=registry)

    def render(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        return generate_latest(self.registry)
