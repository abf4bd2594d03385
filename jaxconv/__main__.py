"""``python -m jaxconv`` is the command ``jaxconv``."""

import sys

from jaxconv.cli.command_line import main

if __name__ == "__main__":
    sys.exit(main())
