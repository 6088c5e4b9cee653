"""Gristmill: a data engine for the post-training of language models."""

from importlib.metadata import version

__version__ = version("gristmill")
