"""The larger commands of ``jaxconv``, a module each: NAME, SUMMARY and TEXT for the help, ``arguments`` and ``run``.

They import what does the work inside ``run``, so that ``--help`` waits for nothing.
"""

from jaxconv.commands import convert, export, predict, train

COMMANDS = {command.NAME: command for command in (train, predict, convert, export)}
