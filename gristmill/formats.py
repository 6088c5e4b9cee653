"""File formats to raw records, as a stream: each record with its number, or the reason why there is none.

Bytes come from fsspec, decompressed block by block so that what stands before a truncation is not lost.
"""

import csv
import io
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import IO, Any, NamedTuple
from urllib.parse import urlsplit

import fsspec
import ijson
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from gristmill.errors import BadInput

MAX_LINE = 16 << 20
"""Bytes a line of JSONL, CSV or text may have; a longer one is a bad row and is never held in memory."""

BLOCK = 1 << 20
FORMATS = (".jsonl", ".ndjson", ".json", ".parquet", ".csv", ".txt")
COMPRESSIONS = (".gz", ".zst")


class Bad(NamedTuple):
    """A record that cannot be read, and why."""

    reason: str


Numbered = tuple[int, Mapping[str, Any] | Bad, int]
"""A record's 0-based number in its file, the record, and roughly how many bytes it takes."""


def expand(paths: Sequence[str]) -> list[str]:
    """The files that paths, globs, directories and URLs name, each once, in the order given (sorted within a glob).

    Raises BadInput for a path that names no file and for a file whose format is not known.
    """
    files: dict[str, None] = {}
    for path in map(str, paths):
        filesystem, root = fsspec.core.url_to_fs(path)
        protocol = f"{path.split('://')[0]}://" if "://" in path else ""
        if filesystem.isdir(root):
            found = sorted(name for name in filesystem.find(root) if format_of(name) and _visible(name))
            problem = f"no file in it ends in {', '.join(FORMATS)} (with .gz or .zst)"
        elif any(c in root for c in "*?[") and not filesystem.exists(root):
            found, problem = sorted(filter(_visible, filesystem.glob(root))), "no file matches"
        else:
            found, problem = ([root] if filesystem.exists(root) else []), "no such file"
            if not protocol and found:
                found = [path]
        if not found:
            raise BadInput(f"{redacted(path)}: {problem}")
        files |= dict.fromkeys(protocol + name if protocol else name for name in found)
    for name in files:
        if not format_of(name):
            allowed = ", ".join(FORMATS)
            raise BadInput(f"{redacted(name)}: not a format Gristmill reads; allowed: {allowed}, each also .gz or .zst")
    return list(files)


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
    except (OSError, EOFError, zlib.error, zstandard.ZstdError, pa.ArrowException, ijson.JSONError) as error:
        where = "after row " + str(number) if number >= 0 else "at its beginning"
        yield number + 1, Bad(f"the file breaks off {where}: {one_line(error)}"), 0
    except (UnicodeDecodeError, csv.Error) as error:
        yield number + 1, Bad(f"the file cannot be read past row {number}: {one_line(error)}"), 0


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
        new = lambda: zlib.decompressobj(wbits=31)  # noqa: E731 (31: a gzip header and trailer)
    elif path.lower().endswith(".zst"):
        new = zstandard.ZstdDecompressor().decompressobj
    with _open(path) as file:
        decoder = None
        while raw := file.read(BLOCK if new is None else BLOCK // 8):
            if new is None:
                yield raw
                continue
            while raw:  # a file may hold several compressed members
                decoder = decoder or new()
                if data := decoder.decompress(raw):
                    yield data
                raw = b""
                if decoder.eof:
                    raw, decoder = decoder.unused_data, None
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
        yield 0, record if isinstance(record, dict) else Bad("not an object or an array of objects"), len(whole)
        return
    yield from _jsonl(path)


def _array(path: str) -> Iterator[Numbered]:
    events = ijson.items(_Reader(_blocks(path)), "item", use_float=True)
    for number, record in enumerate(events):
        yield number, record if isinstance(record, dict) else Bad(f"not an object: {str(record)[:40]}"), 1_000


class _Reader:
    """Blocks behind `read(size)`, the one method ijson asks for; a byte-order mark is left out."""

    def __init__(self, blocks: Iterable[bytes]):
        self.blocks, self.rest, self.first = iter(blocks), b"", True

    def read(self, size: int) -> bytes:
        if not self.rest:
            self.rest = next(self.blocks, b"")
            if self.first:
                self.rest, self.first = self.rest.removeprefix(b"\xef\xbb\xbf"), False
        data, self.rest = self.rest[:size], self.rest[size:]
        return data


def _parquet(path: str) -> Iterator[Numbered]:
    with tempfile.TemporaryFile() as unpacked, _open(path) as packed:
        file: IO[bytes] = packed
        if path.lower().endswith(COMPRESSIONS):  # Parquet is read from its end, so it cannot be a stream
            for block in _blocks(path):
                unpacked.write(block)
            file = unpacked
        number = 0
        for batch in pq.ParquetFile(file).iter_batches(1_024):
            for record in batch.to_pylist():
                yield number, record, batch.nbytes // batch.num_rows
                number += 1


def _csv(path: str) -> Iterator[Numbered]:
    csv.field_size_limit(MAX_LINE)
    text = io.TextIOWrapper(io.BufferedReader(_Raw(_blocks(path))), encoding="utf-8-sig", newline="")
    rows = csv.reader(text, strict=True)
    header = next(rows, None)
    for number, values in enumerate(rows):
        if not values:
            continue
        if header is None or len(values) != len(header):
            yield number, Bad(f"{len(values)} values under {len(header or ())} column names"), 0
        else:
            yield number, dict(zip(header, values, strict=True)), sum(map(len, values))


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
