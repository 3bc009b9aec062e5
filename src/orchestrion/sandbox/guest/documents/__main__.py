"""`python -m documents FILE_JSON RESULT`: what `ingest` runs for each file."""

import sys

from .ingest import main

sys.exit(main(sys.argv[1:]))
