"""``python -m jaxconv`` is the command ``jaxconv``."""

from jaxconv.cli.command_line import entry_point

if __name__ == "__main__":
    entry_point()
