"""Inspect's evaluation logs (https://inspect.aisi.org.uk/eval-logs.html): `.json`, and `.eval`, which is a ZIP.

Members of a `.eval` are deflated or, in newer logs, Zstandard (ZIP method 93), which Python's zipfile cannot read
before 3.14; then their bytes are taken from the archive and decompressed here. Values are read as Inspect's
`value_to_float` reads them: C 1, P 0.5, I and N 0, yes/true 1, no/false 0; NaN is *unscored*. A score with several
values makes one of each. The epochs of a sample are its samples.

Not covered: events, tools and stores of agents; what is in a message beside its text.
"""

import json
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import IO, Any

import fsspec
import zstandard

from gristmill.errors import BadInput
from gristmill.loop.logs.rows import Log, Row, Value, eval_row, last_said, number, text_of

VALUES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0, "yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
ZSTANDARD = 93


def is_inspect(log: Any) -> bool:
    """Whether a JSON value is a log of Inspect."""
    return isinstance(log, Mapping) and isinstance(log.get("eval"), Mapping) and "status" in log


def read_eval(file: str) -> Log:
    """The rows of a `.eval`. Raises BadInput for an archive that is broken or holds no log."""
    try:
        with fsspec.open(file, "rb") as stream, zipfile.ZipFile(stream) as archive:
            names = archive.namelist()
            header = next((name for name in ("header.json", "_journal/start.json") if name in names), None)
            if header is None:
                raise BadInput(f"{file}: a ZIP without header.json, so no log of Inspect")
            samples = [name for name in names if name.startswith("samples/")]
            log = json.loads(_member(archive, stream, header))
            return _log(file, log, (json.loads(_member(archive, stream, name)) for name in samples))
    except (zipfile.BadZipFile, zstandard.ZstdError, EOFError, ValueError, struct.error) as error:
        raise BadInput(f"{file}: not a log that can be read ({' '.join(str(error).split())})") from error


def read_json(file: str, log: Mapping[str, Any]) -> Log:
    """The rows of a log in JSON. Raises BadInput for one without samples."""
    return _log(file, log, iter(log.get("samples") or ()))


def _member(archive: zipfile.ZipFile, stream: IO[bytes], name: str) -> bytes:
    info = archive.getinfo(name)
    if info.compress_type != ZSTANDARD:
        return archive.read(name)
    stream.seek(info.header_offset)
    head = stream.read(30)
    name_bytes, extra_bytes = struct.unpack("<HH", head[26:30])
    stream.seek(info.header_offset + 30 + name_bytes + extra_bytes)
    return zstandard.ZstdDecompressor().decompressobj().decompress(stream.read(info.compress_size))


def _log(file: str, log: Mapping[str, Any], samples: Iterator[Mapping[str, Any]]) -> Log:
    about = log["eval"]
    rows = [_row(about, sample) for sample in samples]
    said = (log.get("results") or {}).get("total_samples")
    if not rows:
        error = (log.get("error") or {}).get("message")
        why = f" (status {log.get('status', 'unknown')}{f': {error}' if error else ''})"
        raise BadInput(f"{file}: a log without samples{why}; read the log that `inspect eval` wrote, not its header")
    notes = [] if log.get("status", "success") == "success" else [f"status {log['status']}"]
    if said is not None and said != len(rows):
        notes.append(f"the log speaks of {said} samples and holds {len(rows)}")
    return Log(file, "inspect", rows, notes)


def _row(about: Mapping[str, Any], sample: Mapping[str, Any]) -> Row:
    def whole(text: str | None) -> str | None:
        """Text, which may only be a reference to where it lies."""
        lies = (sample.get("attachments") or {}).get((text or "").removeprefix("attachment://"))
        return lies if lies is not None else text

    output = sample.get("output") or {}
    choices = output.get("choices") or []
    said = choices[0].get("message", {}).get("content") if choices else output.get("completion")
    if said is None and not output:
        said = last_said(sample.get("messages") or [])
    asked, target = sample.get("input"), sample.get("target")
    if isinstance(asked, list):
        asked = [{"role": turn["role"], "content": whole(text_of(turn.get("content")))} for turn in asked]
    usage = output.get("usage") or {}
    error = sample.get("error") or {}
    return eval_row(
        whole(asked) if isinstance(asked, str) else asked,
        whole(text_of(said)),
        suite=PurePosixPath(str(about.get("task") or "inspect")).name,
        item=sample["id"],
        sample=int(sample.get("epoch") or 1) - 1,
        scores=dict(_scores(sample)),
        reference="\n".join(map(str, target)) if isinstance(target, list) else target,
        model=output.get("model") or about.get("model"),
        finish_reason=choices[0].get("stop_reason") if choices else None,
        tokens_in=usage.get("input_tokens"),
        tokens_out=usage.get("output_tokens"),
        error=error.get("message") if isinstance(error, Mapping) else str(error),
        meta=sample.get("metadata"),
    )


def _scores(sample: Mapping[str, Any]) -> Iterator[tuple[str, Value]]:
    for name, score in (sample.get("scores") or {}).items():
        value = score.get("value")
        if isinstance(value, Mapping):
            yield from ((f"{name}_{part}", _value(each)) for part, each in value.items())
        elif isinstance(value, list):
            yield from ((f"{name}_{place}", _value(each)) for place, each in enumerate(value))
        else:
            yield name, _value(value)


def _value(value: Any) -> Value:
    if isinstance(value, str) and (known := VALUES.get(value, VALUES.get(value.lower()))) is not None:
        return known
    return number(value)
