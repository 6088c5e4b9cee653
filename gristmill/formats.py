"""File formats to raw records, as a stream: each record with its number, or the reason why there is none.

Bytes come from fsspec, decompressed block by block so that what stands before a truncation is not lost.
"""

import csv
import io
import platform
import re
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple
from urllib.parse import urlsplit

import fsspec
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from gristmill import progress
from gristmill.errors import BadInput
from gristmill.shapes import READ_NAMES

MAX_LINE = 16 << 20
"""Bytes a line of JSONL, CSV or text may have; a longer one is a bad row and is never held in memory."""

BLOCK = 1 << 20
FORMATS = (".jsonl", ".ndjson", ".json", ".parquet", ".csv", ".txt")
COMPRESSIONS = (".gz", ".zst")


BROKEN = "the file breaks off"
"""How the reason begins where the rest of a file, however much it is, cannot be read."""


class Bad(NamedTuple):
    """A record that cannot be read, and why."""

    reason: str


Numbered = tuple[int, Mapping[str, Any] | Bad, int]
"""A record's 0-based number in its file, the record, and roughly how many bytes it takes."""


def expand(paths: Sequence[str]) -> list[str]:
    """The files that paths, globs, directories and URLs name, each once, in the order given (sorted within a glob).

    Raises BadInput for a path that names no file and for a file whose format is not known.
    """
    files: dict[str, str] = {}
    for path in map(str, paths):
        for name in named_files(path):
            files.setdefault(name if "://" in name else str(Path(name).resolve()), name)
    for name in files.values():
        if not format_of(name):
            allowed = ", ".join(FORMATS)
            raise BadInput(f"{redacted(name)}: not a format Gristmill reads; allowed: {allowed}, each also .gz or .zst")
    return list(files.values())


def named_files(path: str) -> list[str]:
    """The files that one path, glob, directory or URL names; raises BadInput if it names none."""
    try:
        filesystem, root = fsspec.core.url_to_fs(path)
    except (ImportError, ValueError) as error:  # a protocol without its driver, or none at all
        raise BadInput(f"{redacted(path)}: {one_line(error)}") from None
    protocol = f"{path.split('://')[0]}://" if "://" in path else ""
    if filesystem.isdir(root):
        if filesystem.exists(f"{root}/kept.parquet"):  # what a filter wrote: the rows it kept
            return [f"{protocol}{root}/kept.parquet"]
        found = sorted(name for name in filesystem.find(root) if format_of(name) and _visible(name))
        problem = f"no file in it ends in {', '.join(FORMATS)} (with .gz or .zst)"
    elif any(c in root for c in "*?[") and not filesystem.exists(root):
        found, problem = sorted(filter(_visible, filesystem.glob(root))), "no file matches"
    elif filesystem.exists(root):
        return [protocol + root if protocol else path]
    else:
        found, problem = [], "no such file"
    if not found:
        raise BadInput(f"{redacted(path)}: {problem}")
    return [protocol + name for name in found]


def _visible(name: str) -> bool:
    """Whether a file is meant to be read: `.x` is hidden and `_x` a marker that writers of tables leave."""
    return not PurePosixPath(name).name.startswith((".", "_"))


def redacted(url: str) -> str:
    """A URL without the user name and password it may carry."""
    parts = urlsplit(url)
    return url.replace(f"{parts.netloc}", parts.netloc.rpartition("@")[2], 1) if "@" in parts.netloc else url


def format_of(path: str) -> str | None:
    """The format a file's name tells (`.jsonl`, …), without its compression; None where it tells none."""
    suffixes = [suffix.lower() for suffix in PurePosixPath(path).suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in FORMATS else None


def place_of(path: str) -> str:
    """A URL as it is, a path as an absolute one."""
    return path if "://" in path else str(fsspec.core.url_to_fs(path)[1])


def check_opens(path: str) -> None:
    """Raise BadInput if a file cannot be opened where this runs, which may be another machine than named it."""
    try:
        _open(path).close()
    except Exception as error:  # the drivers of fsspec have classes of their own, as for missing credentials
        host = platform.node()
        raise BadInput(
            f"{redacted(path)}: cannot be opened on {host} ({one_line(error)}); every machine that reads must see it "
            "under this name, with its own credentials"
        ) from error


def raw_records(path: str) -> Iterator[Numbered]:
    """The records of one file; what breaks the file (a truncation, a lost connection) ends it as a bad row."""
    readers: dict[str, Callable[[str], Iterator[Numbered]]] = {
        ".json": _json, ".parquet": _parquet, ".csv": _csv, ".txt": _text
    }  # fmt: skip
    number = -1
    try:
        for item in readers.get(str(format_of(path)), _jsonl)(path):
            number = item[0]
            yield item
    except (OSError, EOFError, zlib.error, zstandard.ZstdError, pa.ArrowException) as error:
        where = "after row " + str(number) if number >= 0 else "at its beginning"
        yield number + 1, Bad(f"{BROKEN} {where}: {one_line(error)}"), 0


def file_size(path: str) -> int:
    """The bytes of a file as it is stored; 0 where its file system does not say."""
    filesystem, root = fsspec.core.url_to_fs(path)
    with suppress(OSError):  # what cannot be read is told by reading it
        return filesystem.size(root) or 0
    return 0


def one_line(error: BaseException) -> str:
    """An error's text on one line of at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _open(path: str) -> IO[bytes]:
    file: IO[bytes] = fsspec.open(path, "rb").open()
    return file


def _blocks(path: str) -> Iterator[bytes]:
    """The decompressed bytes of a file, about a megabyte at a time; raises EOFError if the stream ends early."""
    new: Callable[[], Any] | None = None
    if path.lower().endswith(".gz"):
        new = partial(zlib.decompressobj, wbits=31)  # 31: a gzip header and trailer
    elif path.lower().endswith(".zst"):
        new = zstandard.ZstdDecompressor().decompressobj
    with _open(path) as file:
        decoder = None
        while raw := file.read(BLOCK if new is None else BLOCK // 8):
            size = len(raw)
            if new is None:
                yield raw
                progress.consume(size)
                continue
            while raw:  # a file may hold several compressed members
                decoder = decoder or new()
                if data := decoder.decompress(raw):
                    yield data
                raw = b""
                if decoder.eof:
                    raw, decoder = decoder.unused_data, None
            progress.consume(size)
        if decoder is not None:
            raise EOFError("the compressed stream ends before its end mark")


def _lines(path: str) -> Iterator[tuple[int, bytes | Bad]]:
    """The physical lines of a file without their ends."""
    number, carry, skipped = 0, b"", 0
    for block in _blocks(path):
        *whole, carry = (carry + block).split(b"\n")
        for line in whole:
            if skipped or len(line) > MAX_LINE:
                yield number, _too_long(skipped + len(line))
                skipped = 0
            else:
                yield number, line
            number += 1
        if len(carry) > MAX_LINE:
            skipped, carry = skipped + len(carry), b""
    if skipped or carry:
        yield number, _too_long(skipped + len(carry)) if skipped else carry


def _too_long(size: int) -> Bad:
    return Bad(f"the line has {size:,} bytes; allowed: {MAX_LINE:,}")


def _jsonl(path: str) -> Iterator[Numbered]:
    for number, line in _lines(path):
        if isinstance(line, Bad):
            yield number, line, 0
            continue
        if number == 0:
            line = line.removeprefix(b"\xef\xbb\xbf")
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            if line.strip():
                yield number, Bad(f"not JSON: {one_line(error)}"), 0
            continue
        yield number, record if isinstance(record, dict) else Bad(f"not an object: {line[:40]!r}"), len(line)


def _json(path: str) -> Iterator[Numbered]:
    """An array of objects as a stream; one object a line as JSONL; else one object."""
    head = b""
    for block in _blocks(path):
        head += block
        if head.strip():
            break
    head = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(b"["):
        yield from _array(path)
        return
    try:
        orjson.loads(head.split(b"\n", 1)[0])
    except orjson.JSONDecodeError:
        whole = b"".join(_blocks(path))
        try:
            record = orjson.loads(whole.removeprefix(b"\xef\xbb\xbf"))
        except orjson.JSONDecodeError as error:
            if whole.strip():
                yield 0, Bad(f"not JSON: {one_line(error)}"), 0
            return
        lists = [value for value in record.values() if isinstance(value, list)] if isinstance(record, dict) else []
        if len(lists) == 1 and not record.keys() & READ_NAMES and all(isinstance(row, dict) for row in lists[0]):
            yield from ((number, row, 1_000) for number, row in enumerate(lists[0]))  # {"data": [rows], …}
            return
        yield 0, record if isinstance(record, dict) else Bad("not an object or an array of objects"), len(whole)
        return
    yield from _jsonl(path)


_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:(?P<end>")|\\?\Z)|[{}\[\]]', re.DOTALL)


def _array(path: str) -> Iterator[Numbered]:
    """The elements of a JSON array, each parsed by itself, so that a bad one costs none of the others."""
    for number, element in enumerate(_elements(_blocks(path))):
        if len(element) > MAX_LINE:
            yield number, _too_long(len(element)), 0
            continue
        try:
            record = orjson.loads(element)
        except orjson.JSONDecodeError as error:
            yield number, Bad(f"not JSON: {one_line(error)}"), 0
            continue
        yield number, record if isinstance(record, dict) else Bad(f"not an object: {element[:40]!r}"), len(element)


def _elements(blocks: Iterable[bytes]) -> Iterator[bytes]:  # noqa: C901 (one loop over one state)
    """The elements of an array as bytes, told by the brackets outside strings; raises EOFError if it has no end."""
    buffer, depth, begin, scanned = b"", 0, 0, 0  # begin: of the element, or of what stands before it
    for block in blocks:
        buffer += block
        for token in _TOKEN.finditer(buffer, scanned):
            mark = token.group()[:1]
            if mark == b'"':
                if token.group("end") is None:  # cut by the end of the block: look again with the next
                    break
            elif mark in b"{[":
                depth += 1
                if depth == 2 and (stray := buffer[begin : token.start()].strip(b" \t\r\n,")):
                    yield stray
                if depth <= 2:
                    begin = token.start() if depth == 2 else token.end()
            else:
                depth -= 1
                if depth == 1:
                    yield buffer[begin : token.end()]
                    begin = token.end()
                elif depth == 0:
                    if stray := buffer[begin : token.start()].strip(b" \t\r\n,"):
                        yield stray
                    return
            scanned = token.end()
        if len(buffer) - begin > 4 * MAX_LINE:
            raise EOFError(f"an element of more than {4 * MAX_LINE:,} bytes")
        buffer, scanned, begin = buffer[begin:], scanned - begin, 0
    raise EOFError("the array has no end")


def _parquet(path: str) -> Iterator[Numbered]:
    with tempfile.TemporaryFile() as unpacked, _open(path) as packed:
        file: IO[bytes] = packed
        if path.lower().endswith(COMPRESSIONS):  # Parquet is read from its end, so it cannot be a stream
            for block in _blocks(path):
                unpacked.write(block)
            file = unpacked
        parquet, number = pq.ParquetFile(file), 0
        share = file_size(path) / max(parquet.metadata.num_rows, 1)
        for batch in parquet.iter_batches(1_024):
            for record in _plain(batch).to_pylist():
                yield number, record, batch.nbytes // batch.num_rows
                number += 1
            if file is packed:  # else the bytes were counted as they were unpacked
                progress.consume(round(batch.num_rows * share))


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with times and dates as text: Python has no nanoseconds, and `meta` is JSON."""
    for place, field in enumerate(batch.schema):
        if pa.types.is_temporal(field.type):
            batch = batch.set_column(place, field.name, batch.column(place).cast(pa.string()))
    return batch


def _csv(path: str) -> Iterator[Numbered]:
    csv.field_size_limit(MAX_LINE)
    raw = io.BufferedReader(_Raw(_blocks(path)))
    # A byte that is not UTF-8 becomes a lone surrogate, so that it costs its own row and no other.
    rows = csv.reader(io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline=""))
    header = next(rows, [])
    for number in count():
        try:
            values = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, Bad(f"not CSV: {one_line(error)}"), 0
            continue
        text = "".join(values)
        if len(values) != len(header):
            if values:
                yield number, Bad(f"{len(values)} values under {len(header)} column names"), 0
        elif not text.isascii() and any("\udc80" <= character <= "\udcff" for character in text):
            yield number, Bad("not UTF-8"), 0
        else:
            yield number, dict(zip(header, values, strict=True)), len(text)


class _Raw(io.RawIOBase):
    """Blocks as a raw file, for the text layer of the standard library."""

    def __init__(self, blocks: Iterable[bytes]):
        self.blocks, self.rest = iter(blocks), b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self.rest:
            self.rest = next(self.blocks, b"")
        size = min(len(buffer), len(self.rest))
        buffer[:size], self.rest = self.rest[:size], self.rest[size:]
        return size


def _text(path: str) -> Iterator[Numbered]:
    """One prompt a line; blank lines are none."""
    for number, line in _lines(path):
        if isinstance(line, Bad):
            yield number, line, 0
            continue
        try:
            text = line.decode("utf-8-sig" if number == 0 else "utf-8").rstrip("\r")
        except UnicodeDecodeError as error:
            yield number, Bad(f"not UTF-8: {one_line(error)}"), 0
            continue
        if text.strip():
            yield number, {"text": text}, len(line)
