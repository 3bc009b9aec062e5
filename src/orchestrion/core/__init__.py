"""Settings, errors, events, ids: what every room may use."""
