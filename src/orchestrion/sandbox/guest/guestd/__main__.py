"""Run the daemon: `python -m guestd`."""

from .daemon import main

main()
