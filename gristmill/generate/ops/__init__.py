"""The templates of the transforms that come with Gristmill. Each says where its idea comes from."""

from pathlib import Path

OPS = Path(__file__).parent


def op_names() -> list[str]:
    """The names of the shipped transforms, sorted."""
    return sorted(path.stem for path in OPS.glob("*.yaml") if path.stem != "difficulty")
