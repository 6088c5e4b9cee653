"""Python that users write beside their YAML: scripted replies, scores, rewards."""

import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from gristmill.errors import GristmillError, UsageError


def user_module(file: Path, name: str) -> ModuleType:
    """The module in `file`, or, where there is no such file, the installed one called `name`.

    Raises whatever the module raises: it is the user's code.
    """
    if not file.is_file():
        return sys.modules.get(name) or import_module(name)
    spec = spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no module")
    module = module_from_spec(spec)  # not in sys.modules: two scripts may each have a module of this name
    spec.loader.exec_module(module)
    return module


def user_function(file: Path, name: str, place: str) -> Callable[..., Any]:
    """The function `name` in `file`; `place` says, in a UsageError, who asked for it.

    Raises UsageError where there is none, and for what the module raises when it is loaded.
    """
    if not file.is_file():
        raise UsageError(f"{place}: no file {file}; write FILE.py:FUNCTION")
    try:
        found = getattr(user_module(file, file.stem), name, None)
    except GristmillError:
        raise
    except Exception as error:  # of the user's module, which may raise anything
        raise UsageError(f"{place}: {raised(error)}; mend it") from error
    if not callable(found):
        raise UsageError(f"{place}: no function {name!r} in {file}; write FILE.py:FUNCTION")
    function: Callable[..., Any] = found
    return function


def raised(error: BaseException) -> str:
    """What a user's code raised, in a line: `ValueError: no such unit (world.py, line 7)`."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {' '.join(str(error).split())} ({Path(where.filename).name}, line {where.lineno})"
