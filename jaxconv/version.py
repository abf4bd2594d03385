"""The version of the package; the build and every file that records a version read it from here."""

__version__ = "0.1.0"
