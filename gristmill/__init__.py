"""Gristmill: a data engine for the post-training of language models.

The names below load what they need on first use, so that `import gristmill` and `gristmill --help` are quick.
"""

import os
from importlib import import_module
from importlib.metadata import version
from typing import Any

os.environ.setdefault("DAFT_ANALYTICS_ENABLED", "0")  # read at Daft's import: nothing of ours reports home

__version__ = version("gristmill")

_HOMES = {
    "gristmill.files": ("read",),
    "gristmill.errors": ("GristmillError", "Refused", "UsageError"),
    "gristmill.filter.marks": ("Table", "dropped", "kept", "mark"),
    "gristmill.filter.rules": ("DEFAULT_RULES", "apply_rules"),
    "gristmill.filter.scores": ("keep_top", "minimum_scores"),
    "gristmill.filter.contamination": ("index_files", "mark_contaminated"),
    "gristmill.filter.duplicates": ("exact",),
    "gristmill.filter.near": ("near",),
    "gristmill.filter.collapse": ("mark_openings",),
    "gristmill.filter.pipeline": ("Settings", "filter_files"),
    "gristmill.generate.templates": ("prompt_source",),
    "gristmill.generate.sample": ("Plan", "samples"),
    "gristmill.generate.pipeline": ("generate_rows",),
    "gristmill.models.calls": ("Calls",),
    "gristmill.models.named": ("ready",),
    "gristmill.explain": ("history",),
    "gristmill.run": ("Run",),
}

__all__ = [
    "DEFAULT_RULES",
    "Calls",
    "GristmillError",
    "Plan",
    "Refused",
    "Run",
    "Settings",
    "Table",
    "UsageError",
    "__version__",
    "apply_rules",
    "dropped",
    "exact",
    "filter_files",
    "generate_rows",
    "history",
    "index_files",
    "keep_top",
    "kept",
    "mark",
    "mark_contaminated",
    "mark_openings",
    "minimum_scores",
    "near",
    "prompt_source",
    "read",
    "ready",
    "samples",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'gristmill' has no attribute {name!r}")
