"""Traces: a run as a record that people can read and models can be trained on."""

from orchestrion.tracing.writer import SCHEMA_VERSION, write_trace

__all__ = ["SCHEMA_VERSION", "write_trace"]
