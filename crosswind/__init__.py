"""Crosswind: warns the right people when bad news surges, in any language, with the evidence."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("crosswind")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

__all__ = ["__version__"]
