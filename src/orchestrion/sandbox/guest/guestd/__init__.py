"""What runs inside a sandbox: the daemon, the persistent Python and the supervision of processes.

Standard library only, and never `orchestrion`: these files are mounted read-only at `/opt/orchestrion`.
"""
