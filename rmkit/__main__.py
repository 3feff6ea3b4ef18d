"""`python -m rmkit`: what a launcher starts."""

import sys

from rmkit.cli import main

sys.exit(main())
