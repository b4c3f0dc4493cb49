"""``python -m deformsample``."""

import sys

from deformsample.cli.main import main

sys.exit(main())
