"""Keys: what a step is made of, as content. Equal keys, equal results.

A key is BLAKE2b over canonical JSON: the step, its code (`code_version.py`), its inputs by content and its parameters.
The order of a dict or a set does not count, nor do the times of files; the names of files do, for rows carry them.

Not covered: values computed from the clock, the environment or the network inside a step.
"""

import dataclasses
import enum
import functools
import json
import math
import time
import types
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from hashlib import blake2b
from pathlib import Path
from typing import Any

import daft
import fsspec
import numpy as np
import pyarrow as pa
import pydantic

from gristmill.code_version import code_version
from gristmill.errors import BadInput, UsageError
from gristmill.formats import named_files
from gristmill.ledger import Ledger

SIZE = 16
"""Bytes of a hash."""

SETTLED = 0.1
"""Seconds after which a changed file surely has another time: clocks of file systems tick every 10 ms or faster."""


def key_of(parts: Mapping[str, Any]) -> str:
    """32 hex digits for canonical JSON values."""
    return blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=SIZE).hexdigest()


def canonical(value: Any, name: str) -> Any:
    """A parameter as JSON that is the same whenever the value is; `name` says which, in the UsageError otherwise.

    Tagged objects (`{"$set": …}`) stand for what JSON lacks: sets, enums, dataclasses, pydantic models, named tuples,
    bytes, NumPy arrays, Arrow schemas, functions (by name, source and captured values), numbers that are not finite.
    """
    match value:
        case enum.Enum():
            return {"$enum": f"{_named(type(value))}.{value.name}"}
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else {"$float": str(value)}
        case np.generic():
            return canonical(value.item(), name)
        case Path():
            return str(value)
        case Mapping():
            return _pairs(value, name)
        case Set():
            return {"$set": sorted((canonical(each, name) for each in value), key=_text)}
        case list() | tuple():
            items = [canonical(each, name) for each in value]
            return {"$tuple": _named(type(value)), "fields": items} if hasattr(value, "_fields") else items
    return _tagged(value, name)


def _tagged(value: Any, name: str) -> dict[str, Any]:
    """A value that is neither JSON nor a collection."""
    match value:
        case bytes():
            return {"$bytes": _hex(value)}
        case np.ndarray() if value.dtype != object:
            array = np.ascontiguousarray(value)
            return {"$array": [str(array.dtype), list(array.shape), _hex(array.tobytes())]}
        case pa.Schema():
            return {"$schema": _hex(value.serialize().to_pybytes())}
        case pydantic.BaseModel():
            fields = {field: getattr(value, field) for field in type(value).model_fields}
            return {"$model": _named(type(value)), "fields": _pairs(fields, name)}
        case functools.partial():
            return {"$partial": [canonical(part, name) for part in (value.func, value.args, value.keywords)]}
        case types.FunctionType():
            return {"$function": _function(value, name)}
        case types.BuiltinFunctionType() | np.ufunc():
            return {"$function": f"{getattr(value, '__module__', None)}:{value.__name__}"}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {"$dataclass": _named(type(value)), "fields": _pairs(fields, name)}
    raise UsageError(
        f"{name}: a {type(value).__name__} has no content to know it by; allowed are JSON values, paths, sets, enums, "
        "dataclasses, NumPy arrays, Arrow schemas and functions; tables and files are positional; "
        "a name that begins with _ stays out of the key"
    )


def _pairs(value: Mapping[Any, Any], name: str) -> Any:
    """A mapping whose keys JSON can hold as it is, another as sorted pairs."""
    if all(isinstance(key, str) and not key.startswith("$") for key in value):
        return {str(key): canonical(each, f"{name}[{key!r}]") for key, each in value.items()}
    pairs = [[canonical(key, name), canonical(each, f"{name}[{key!r}]")] for key, each in value.items()]
    return {"$dict": sorted(pairs, key=_text)}


def captured(fn: Callable[..., Any], name: str) -> dict[str, Any]:
    """The values a nested function takes from around it, canonical; they decide its result as parameters do."""
    cells = zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True)
    found = {}
    for variable, cell in cells:
        try:
            value = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
        if value is not fn:
            found[variable] = canonical(value, f"{name}, which captures {variable!r}")
    return found


def _function(fn: types.FunctionType, name: str) -> list[Any]:
    text = f"{fn.__module__}:{fn.__qualname__}"
    defaults = [canonical(part, name) for part in (fn.__defaults__, fn.__kwdefaults__)]
    return [text, code_version(fn), _hex(_bytecode(fn.__code__)), defaults, captured(fn, name)]


def _bytecode(code: types.CodeType) -> bytes:
    """Tells apart the functions of one line of one file."""
    constants = [_bytecode(c) if isinstance(c, types.CodeType) else repr(c).encode() for c in code.co_consts]
    return b"|".join([str(code.co_firstlineno).encode(), code.co_code, " ".join(code.co_names).encode(), *constants])


def _named(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _hex(raw: bytes | memoryview) -> str:
    return blake2b(raw, digest_size=SIZE).hexdigest()


def file_hash(path: Path) -> str:
    """The hash of a file's bytes."""
    digest = blake2b(digest_size=SIZE)
    block = memoryview(bytearray(1 << 20))
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(block):
            digest.update(block[:size])
    return digest.hexdigest()


def arrow_hash(table: pa.Table) -> str:
    """The hash of an Arrow table: its schema and its rows, in their order."""
    digest = blake2b(digest_size=SIZE)

    class Sink:
        closed = False

        def write(self, raw: Any) -> int:
            digest.update(raw)
            return len(raw)

        def flush(self) -> None: ...

    whole = pa.Table.from_batches(table.combine_chunks().to_batches(), table.schema.remove_metadata())
    with pa.ipc.new_stream(pa.PythonFile(Sink(), mode="w"), whole.schema) as stream:
        stream.write_table(whole)
    return digest.hexdigest()


def rows_hash(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> str:
    """The hash of a table's rows in any order: of the sorted hashes of its rows (64-bit xxHash3, by Daft)."""
    hashes = [_row_hashes(pa.StructArray.from_arrays(batch.columns, fields=list(schema))) for batch in batches]
    rows = np.sort(np.concatenate([np.zeros(0, np.uint64), *hashes]))
    return _hex(schema.remove_metadata().serialize().to_pybytes() + rows.tobytes())


_ODD = np.uint64(0x9E3779B97F4A7C15)


def _row_hashes(array: pa.Array) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """One hash a value; null differs from empty, and the place of a field or an item counts."""
    kind = array.type
    if pa.types.is_struct(kind):
        hashes = np.full(len(array), len(kind), np.uint64)
        for child in array.flatten():
            hashes = mixed(hashes) + _row_hashes(child)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        offsets = np.asarray(array.offsets).astype(np.int64)
        places = np.arange(offsets[-1] - offsets[0]) - np.repeat(offsets[:-1] - offsets[0], np.diff(offsets))
        values = _row_hashes(array.values.slice(offsets[0], offsets[-1] - offsets[0]))
        items = mixed(values + places.astype(np.uint64) * _ODD)
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(items, dtype=np.uint64)])
        ends = offsets - offsets[0]
        hashes = mixed(sums[ends[1:]] - sums[ends[:-1]] + np.diff(offsets).astype(np.uint64))
    else:
        hashes = np.asarray(daft.Series.from_arrow(array).hash().to_arrow()).astype(np.uint64)
    nulls = np.asarray(array.is_null())
    return np.where(nulls, _ODD, mixed(hashes))


def mixed(hashes: np.ndarray[Any, np.dtype[np.uint64]]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """A bijection that spreads every bit (SplitMix64's finaliser, https://prng.di.unimi.it/splitmix64.c)."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))


def hashed_files(paths: Sequence[str], ledger: Ledger) -> list[dict[str, Any]]:
    """{name, hash} of each file, by content; a directory or a glob names the files in it that can be read as rows.

    A directory without any of those (weights, say) names every file in it. Local files are hashed once as long as
    size and times stay; for a URL its file system tells a unique key. Raises BadInput for a path that names no file.
    """
    return [{"name": name, "hash": _content(name, ledger)} for path in paths for name in _files_at(path)]


def _files_at(path: str) -> list[str]:
    try:
        return named_files(path)
    except BadInput:
        every = sorted(str(file) for file in Path(path).rglob("*") if file.is_file()) if Path(path).is_dir() else []
        if not every:
            raise
        return every


def _content(name: str, ledger: Ledger) -> str:
    filesystem, root = fsspec.core.url_to_fs(name)
    if "file" not in ([filesystem.protocol] if isinstance(filesystem.protocol, str) else filesystem.protocol):
        return str(filesystem.ukey(root))
    path = Path(root).resolve()
    try:
        before = path.stat()
        if known := ledger.known_hash(str(path), before):
            return known
        hashed = file_hash(path)
    except OSError as error:
        raise BadInput(f"{name}: {error.strerror}") from error
    if time.time() - before.st_ctime > SETTLED:
        ledger.remember_hash(str(path), before, hashed)
    return hashed
