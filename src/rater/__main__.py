"""`python -m rater` is `rater`."""

from __future__ import annotations

import sys

from rater.cli import main

if __name__ == "__main__":
    sys.exit(main())
