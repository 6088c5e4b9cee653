"""The templates that come with Gristmill, by name: `library:NAME`. Each says where its idea comes from."""

from pathlib import Path

from gristmill.errors import UsageError
from gristmill.generate.template_file import Template

PREFIX = "library:"


def library_names() -> list[str]:
    """The names of all templates, sorted."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.yaml"))


def library_path(name: str) -> Path:
    """The file of a template, named with or without `library:`; raises UsageError for a name that is none."""
    stem = name.removeprefix(PREFIX)
    if stem not in library_names():
        raise UsageError(f"{PREFIX}{stem}: no such template; there are {', '.join(library_names())}")
    return Path(__file__).parent / f"{stem}.yaml"


def library() -> list[tuple[str, int, Template]]:
    """Each template with its name and the number of prompts that are possible."""
    from gristmill.generate.prepared import Prepared

    templates = [(name, Template.load(library_path(name))) for name in library_names()]
    return [(name, Prepared(template).combinations.size, template) for name, template in templates]
