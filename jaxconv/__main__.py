"""``python -m jaxconv`` is the command ``jaxconv``."""

import sys

from jaxconv.cli import main

if __name__ == "__main__":
    sys.exit(main())
