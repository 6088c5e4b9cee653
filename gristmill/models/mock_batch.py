"""The batch API of the mock server: OpenAI's files and batches, with faults on demand.

`--batch-fault NAME=COUNT` makes the first COUNT of what it concerns fail:

    429, 500     a request to the batch API, before anything is done
    lost         the answer to a POST, after it was done
    expired      a batch: after half of its requests
    cancelled    a batch: after half of its requests
    failed       a batch: nothing of it is done, and no line is named
    bad-line     a batch: nothing of it is done, for its second line is wrong
    queue-full   a batch: nothing of it is done, for the queue is full
    row-500      a request in a batch: an error of the server
    row-400      a request in a batch: it is refused

Not covered: limits on sizes, `expires_after`, deletion.
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson

BATCH_FAULTS = (
    *("429", "500", "lost", "expired", "cancelled", "failed", "bad-line", "queue-full", "row-500", "row-400"),
)

ERRORS: dict[str, dict[str, Any]] = {
    "failed": {"code": "invalid_request", "message": "This model does not do batches", "line": None},
    "bad-line": {"code": "invalid_request", "message": "This line is wrong", "line": 2},
    "queue-full": {"code": "token_limit_exceeded", "message": "Enqueued token limit reached. Limit: 9", "line": None},
}
ROW_ERRORS = {
    "row-500": (500, {"error": {"message": "Internal error", "type": "server_error"}}),
    "row-400": (400, {"error": {"message": "Not like this", "code": "invalid_value"}}),
}
LATE = {
    "code": "batch_expired",
    "message": "This request could not be executed before the completion window expired.",
}

Answer = tuple[int, bytes]
"""Status and body."""


class MockBatches:
    """The files and batches of a mock server; `served` makes the answer to the body of a request."""

    def __init__(self, options: argparse.Namespace, served: Callable[[dict[str, Any]], bytes]):
        self.seconds, self.hold, self.served = options.batch_seconds, options.batch_hold, served
        self.faults: Counter[str] = Counter(dict(map(_fault, options.batch_fault)))
        self.files: dict[str, dict[str, Any]] = {}
        self.contents: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.fates: dict[str, tuple[str | None, float]] = {}

    def fault(self, *names: str) -> str | None:
        """The first of these faults that is still to be met."""
        for name in names:
            if self.faults[name] > 0:
                self.faults[name] -= 1
                return name
        return None

    def stats(self) -> dict[str, Any]:
        """What was made so far, as JSON."""
        statuses = Counter(batch["status"] for batch in self.batches.values())
        sent = sum(batch["request_counts"]["total"] for batch in self.batches.values())
        uploads = sum(file["purpose"] == "batch" for file in self.files.values())
        return {"files": uploads, "made": len(self.batches), "requests": sent, "statuses": statuses}

    def answer(self, method: str, path: str, content: bytes) -> Answer:
        """What a request to the batch API gets."""
        where = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(where.query).items()}
        match method, where.path.removeprefix("/v1/").split("/"):
            case "POST", ["files"]:
                fields = _multipart(content)
                name, data = fields["file"]
                return _sent(self._kept(name, data, fields["purpose"][1].decode()))
            case "GET", ["files"]:
                files = [file for file in self.files.values() if file["purpose"] == query.get("purpose", "batch")]
                return _page(files, query)
            case "GET", ["files", id_, "content"] if id_ in self.contents:
                return 200, self.contents[id_]
            case "POST", ["batches"]:
                return self._made(orjson.loads(content))
            case "GET", ["batches"]:
                return _page([self._now(id_) for id_ in self.batches], query)
            case "GET", ["batches", id_] if id_ in self.batches:
                return _sent(self._now(id_))
            case "POST", ["batches", id_, "cancel"] if id_ in self.batches:
                self.fates[id_] = ("cancelled", 0.0)
                return _sent(self._now(id_))
        return 404, orjson.dumps({"error": {"message": f"No such object: {where.path}"}})

    def _kept(self, name: str, data: bytes, purpose: str) -> dict[str, Any]:
        id_ = f"file-{len(self.files) + 1}"
        about = {"object": "file", "bytes": len(data), "created_at": int(time.time()), "filename": name}
        self.files[id_], self.contents[id_] = {"id": id_, **about, "purpose": purpose}, data
        return self.files[id_]

    def _made(self, wanted: dict[str, Any]) -> Answer:
        file = wanted["input_file_id"]
        if file not in self.contents:
            return 400, orjson.dumps({"error": {"message": f"Cannot find file {file}"}})
        id_ = f"batch_{len(self.batches) + 1}"
        self.fates[id_] = (
            self.fault("failed", "bad-line", "queue-full", "expired", "cancelled"),
            time.monotonic() + self.seconds,
        )
        total = len(self.contents[file].splitlines())
        self.batches[id_] = {
            "id": id_,
            "object": "batch",
            **wanted,
            "errors": None,
            "status": "in_progress",
            "output_file_id": None,
            "error_file_id": None,
            "created_at": int(time.time()),
            "request_counts": {"total": total, "completed": 0, "failed": 0},
        }
        return _sent(self.batches[id_])

    def _now(self, id_: str) -> dict[str, Any]:
        """A batch as it stands: worked through when its time has come."""
        batch, (fate, due) = self.batches[id_], self.fates[id_]
        if batch["status"] != "in_progress" or time.monotonic() < due or (self.hold and self.hold.exists()):
            return batch
        if fate and fate in ERRORS:
            batch["status"] = "failed"
            batch["errors"] = {"object": "list", "data": [{"param": None, **ERRORS[fate]}]}
            return batch
        lines = [orjson.loads(line) for line in self.contents[batch["input_file_id"]].splitlines()]
        done = lines[: len(lines) // 2] if fate else lines
        outputs: list[dict[str, Any]] = []
        errors: list[dict[str, Any]] = []
        for line in done:
            row = {"id": f"batch_req_{len(outputs) + len(errors)}", "custom_id": line["custom_id"], "error": None}
            if fault := self.fault(*ROW_ERRORS):
                status, body = ROW_ERRORS[fault]
                errors.append({**row, "response": {"status_code": status, "request_id": "r", "body": body}})
            else:
                body = orjson.loads(self.served(line["body"]))
                outputs.append({**row, "response": {"status_code": 200, "request_id": "r", "body": body}})
        late = LATE if fate == "expired" else {**LATE, "code": "batch_cancelled"}
        errors += [{"custom_id": line["custom_id"], "response": None, "error": late} for line in lines[len(done) :]]
        for name, rows in (("output_file_id", outputs), ("error_file_id", errors)):
            if rows:
                data = b"".join(orjson.dumps(row) + b"\n" for row in rows)
                batch[name] = self._kept(f"{id_}_{name}.jsonl", data, "batch_output")["id"]
        batch["request_counts"] |= {"completed": len(outputs), "failed": len(errors)}
        batch["status"] = fate or "completed"
        return batch


def _multipart(content: bytes) -> dict[str, tuple[str, bytes]]:
    """The fields of a form, each with its file's name (https://www.rfc-editor.org/rfc/rfc7578)."""
    boundary = content.split(b"\r\n", 1)[0]
    fields = {}
    for part in content.split(boundary)[1:-1]:
        head, _, body = part.partition(b"\r\n\r\n")
        words = dict(
            word.strip().split("=", 1) for word in head.decode().replace("\r\n", ";").split(";") if "=" in word
        )
        fields[words["name"].strip('"')] = (words.get("filename", "").strip('"'), body.removesuffix(b"\r\n"))
    return fields


def _page(found: list[dict[str, Any]], query: dict[str, str]) -> Answer:
    """A page of a list, newest first."""
    newest = found[::-1]
    start = next((place + 1 for place, each in enumerate(newest) if each["id"] == query.get("after")), 0)
    size = int(query.get("limit", 20))
    page = newest[start : start + size]
    return _sent({"object": "list", "data": page, "has_more": start + size < len(newest)})


def _sent(found: dict[str, Any]) -> Answer:
    return 200, orjson.dumps(found)


def _fault(text: str) -> tuple[str, int]:
    name, _, count = text.partition("=")
    if name not in BATCH_FAULTS:
        raise SystemExit(f"--batch-fault {text}: allowed are {', '.join(BATCH_FAULTS)}")
    return name, int(count or 1)
