"""What version of the code a step ran: a hash of the sources it can reach.

The whole package counts, and the versions of the engines under it; for a function from elsewhere (a recipe) also its
file and, transitively, the local modules that file imports: those that lie below the function's directory or the
working directory. Editing a comment computes a step again; that is safe, where guessing what matters is not.

Not covered: installed packages other than the engines, modules imported by a computed name, and files a recipe opens
by itself (hand these to the step as inputs).
"""

import ast
import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gristmill.errors import UsageError

PACKAGE = Path(__file__).parent
ENGINES = ("daft", "pyarrow", "numpy")
SOURCES = {".py", ".j2", ".yaml"}


@functools.cache
def package_version() -> str:
    """The hash of the package's own sources and the versions of the engines; read once a process."""
    files = sorted(path for path in PACKAGE.rglob("*") if path.suffix in SOURCES)
    engines = [f"{name} {version(name)}" for name in ENGINES]
    return _hashed([(path.relative_to(PACKAGE).as_posix(), path.read_bytes()) for path in files], *engines)


def code_version(fn: Callable[..., Any]) -> str:
    """The version of the code that `fn` runs; raises UsageError where its source cannot be found."""
    path = source_file(fn)
    if path is None:
        try:
            source = inspect.getsource(fn)  # a notebook's cell
        except (OSError, TypeError):
            raise UsageError(
                f"{getattr(fn, '__name__', fn)!r}: its source is in no file, so nothing tells when it changes; "
                "define it in a file"
            ) from None
        return _hashed([("", source.encode())], package_version())
    if path.is_relative_to(PACKAGE):
        return package_version()
    # Named by their place as seen from the recipe, so that moving the whole changes nothing.
    files = sorted((Path(os.path.relpath(file, path.parent)).as_posix(), file) for file in local_files(path))
    return _hashed([(name, file.read_bytes()) for name, file in files], package_version())


def source_file(fn: Callable[..., Any]) -> Path | None:
    """The file that defines a function, None where there is none."""
    code = getattr(fn, "__code__", None)
    path = Path(code.co_filename) if code else Path("<none>")
    return path.resolve() if path.is_file() else None


def local_files(path: Path) -> set[Path]:
    """`path` and the local Python files it imports, and they import, and so on."""
    roots = (path.parent, Path.cwd())
    found: set[Path] = set()
    left = [path]
    while left:
        file = left.pop()
        if file not in found:
            found.add(file)
            stat = file.stat()
            left += [near for near in _imported(file, stat.st_mtime_ns, stat.st_size, roots) if _is_local(near, roots)]
    return found


def _is_local(file: Path, roots: tuple[Path, ...]) -> bool:
    if file.is_relative_to(PACKAGE) or {"site-packages", "dist-packages"} & set(file.parts):
        return False
    return any(file.is_relative_to(root) for root in roots)


@functools.lru_cache(4096)
def _imported(file: Path, _mtime_ns: int, _size: int, roots: tuple[Path, ...]) -> list[Path]:
    """The files of the modules that a file imports, wherever the import stands in it."""
    tree = ast.parse(file.read_bytes(), str(file))
    package = file.parent
    while (package / "__init__.py").exists():
        package = package.parent
    places = [file.parent, package, *roots, *(Path(entry) for entry in sys.path if entry)]
    found = []
    for level, name in _names(tree):
        above = [file.parents[level - 1]] if level else places
        if not level and (loaded := getattr(sys.modules.get(name), "__file__", None)):
            found.append(Path(loaded).resolve())
            continue
        parts = name.split(".") if name else []
        for place in above:
            module = place.joinpath(*parts)
            candidates = (module.with_suffix(".py") if parts else module / "__init__.py", module / "__init__.py")
            if there := [candidate for candidate in candidates if candidate.is_file()]:
                found.append(there[0].resolve())
                break
    return found


def _names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every module an import may load, with its level: the packages above it, it, and the names taken from it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            wanted = [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            wanted = [(node.level, f"{base}.{alias.name}".strip(".")) for alias in node.names]
        else:
            continue
        for level, name in wanted:
            parts = name.split(".")
            yield from ((level, ".".join(parts[:end])) for end in range(1, len(parts) + 1))


def _hashed(files: list[tuple[str, bytes]], *words: str) -> str:
    digest = blake2b(digest_size=16)
    for part in [word.encode() for word in words] + [part for name, raw in files for part in (name.encode(), raw)]:
        digest.update(b"%d:%b" % (len(part), part))
    return digest.hexdigest()
