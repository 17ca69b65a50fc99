"""`python -m rlhfv`."""

import sys

from rlhfv.cli import main

sys.exit(main())
