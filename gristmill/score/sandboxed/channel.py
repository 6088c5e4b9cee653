"""Messages between two processes: JSON with its length before it, over a stream socket."""

import json
import select
import socket
import time
from typing import Any

LARGEST = 64 * 2**20
"""Bytes of a message."""


class Closed(Exception):
    """The other side is gone, or what it sent is no message."""


class Late(Exception):
    """The deadline came first."""


class Channel:
    """One end of a socket. `deadline`, in seconds of `time.monotonic()`, holds for all that is sent and received."""

    def __init__(self, end: socket.socket, deadline: float | None = None):
        self.end, self.deadline = end, deadline

    def send(self, message: Any) -> None:
        """Raises Closed, Late, and ValueError or RecursionError for what JSON cannot say."""
        data = json.dumps(message, separators=(",", ":")).encode()
        if len(data) > LARGEST:
            raise ValueError(f"a message of {len(data):,} bytes, more than {LARGEST:,}")
        view = memoryview(len(data).to_bytes(4, "big") + data)
        while view:
            self._wait(select.POLLOUT)
            try:
                view = view[self.end.send(view) :]
            except OSError as error:
                raise Closed from error

    def receive(self) -> Any:
        """The next message. Raises Closed and Late."""
        size = int.from_bytes(self._exactly(4), "big")
        if size > LARGEST:
            raise Closed
        try:
            return json.loads(self._exactly(size))
        except (ValueError, RecursionError, MemoryError) as error:
            raise Closed from error

    def _exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            self._wait(select.POLLIN)
            try:
                some = self.end.recv(min(count - len(data), 2**20))
            except OSError as error:
                raise Closed from error
            if not some:
                raise Closed
            data += some
        return bytes(data)

    def _wait(self, event: int) -> None:
        if self.deadline is None:
            return
        poll = select.poll()
        poll.register(self.end, event)
        if not poll.poll(max(0.0, self.deadline - time.monotonic()) * 1000):
            raise Late
