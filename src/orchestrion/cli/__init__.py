"""The command line: one of the faces of a run. Everything heavy is imported by the command that needs it."""
