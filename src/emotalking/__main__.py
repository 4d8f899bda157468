"""``python -m emotalking`` is the command ``emotalking``."""

import sys

from emotalking.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
