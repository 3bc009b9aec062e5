"""What is kept: the journal of events, sessions and runs, checkpoints, blobs, and the sessions' files."""
