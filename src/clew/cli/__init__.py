"""The command line: one function per verb. stdout is data, stderr is talk; a user's mistake ends in exit 2."""

from clew.cli.app import main

__all__ = ["main"]
