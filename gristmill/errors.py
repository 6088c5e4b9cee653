"""The errors Gristmill raises on purpose.

    GristmillError
    ├── UsageError        the caller's input or flags cannot be used (exit 2)
    │   ├── BadInput      a file, or too many of its rows, cannot be read
    │   └── BadRow        one row cannot be used: the reader sets it aside and goes on
    ├── Refused           the work was done and the answer is no (exit 1)
    ├── CallFailed        one model call has no answer: its row says why and the others go on
    └── OutOfSpace        the disk is full; what is finished is kept and the run goes on from there (exit 1)

Every message is one line: what was received, what is allowed, what to do. The command line prints it without a
traceback; anything else that escapes is a defect of Gristmill and keeps its traceback.
"""


class GristmillError(Exception):
    """Base of every error raised on purpose."""


class UsageError(GristmillError):
    """The input or a flag cannot be used; the message names it and the fix."""


class BadInput(UsageError):
    """A file cannot be read, or more of its rows are bad than is allowed."""


class BadRow(UsageError):
    """One row cannot be used. Never leaves the reader: the row lands in `bad_rows.jsonl` with this reason."""


class Refused(GristmillError):
    """The answer is no: an alarm named by `--fail-on` fired, or a gate rejected."""


class CallFailed(GristmillError):
    """One call to a model has no answer.

    `kind` is one word: `rate_limited` (429), `server` (5xx), `timeout`, `disconnected`, `bad_answer` (no JSON, no
    choices), `too_long` (longer than the context), `content_filter`, `bad_request` (other 4xx), `invalid` (not of the
    schema). `again` says whether asking again may help, `after` the seconds that the server wants to be left alone.
    """

    def __init__(self, kind: str, message: str, *, again: bool = False, after: float | None = None):
        super().__init__(f"{kind}: {message}")
        self.kind, self.again, self.after = kind, again, after


class OutOfSpace(GristmillError):
    """The disk is full. Finished steps are kept: free space, and run the same again."""
