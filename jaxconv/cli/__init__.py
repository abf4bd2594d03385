"""The command ``jaxconv``: the command line, and one module for each command.

A command module has NAME, SUMMARY and TEXT for the help, ``arguments`` and ``run``. It imports what does the work
inside ``run``, so that ``--help`` starts fast.
"""

from jaxconv.cli.command_line import main

__all__ = ["main"]
