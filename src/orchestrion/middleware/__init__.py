"""Cross-cutting concerns of every agent, one in each file."""
