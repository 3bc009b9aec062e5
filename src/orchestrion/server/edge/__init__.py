"""The way to services inside sandboxes, for E2B's clients and for the page alike."""
