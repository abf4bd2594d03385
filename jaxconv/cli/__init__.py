"""The command ``jaxconv``: the command line, and one module for each command.

A command module has NAME, SUMMARY and TEXT for the help, ``arguments(parser)`` and ``run(options)``. It must import its
dependencies inside ``run``, so that ``--help`` is fast.
"""

from jaxconv.cli.command_line import entry_point, main

__all__ = ["entry_point", "main"]
