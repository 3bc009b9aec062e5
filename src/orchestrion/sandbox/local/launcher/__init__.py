"""What runs between the host and a sandbox: the zygote, and the birth of sandboxes out of it.

Standard library only, and never `orchestrion`: it runs in the sandbox's own Python.
"""
