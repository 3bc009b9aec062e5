"""What runs inside a sandbox: the daemon that speaks E2B's protocol, its interpreters, the supervision of processes.

Standard library, h11 and python_multipart only, and never `orchestrion`: these files are mounted read-only in the
sandbox, or packed into one archive.
"""

VERSION = "1"
"""Of the daemon's own extensions to E2B's protocol, told in the header `Orchestrion-Guest`."""
