"""Answers of a given JSON schema: asked for, checked, and asked for again with the error where they are not.

The server gets the schema as `response_format` (https://platform.openai.com/docs/guides/structured-outputs), which many
ignore in part or whole; so every answer is checked here. What is wrong with it goes back to the model as the next turn,
so that each attempt is a call with a key of its own, and is not paid for twice.

Not covered: servers that refuse `response_format` (its rows say so); grammars and regular expressions.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jsonschema
import orjson
import pydantic

from gristmill.errors import CallFailed, UsageError
from gristmill.models.protocol import Choice, Completion, Model, Request

ATTEMPTS = 3
"""Answers that are asked for before the call counts as failed."""

Schema = Mapping[str, Any] | type[pydantic.BaseModel]

_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL)


class Structured:
    """`inner`, asked for JSON of a schema: a JSON schema, or a pydantic model, whose own checks count too.

    The text of every choice is one JSON value; a code fence around it is taken off. Raises UsageError for what is no
    JSON schema.
    """

    def __init__(self, inner: Model, schema: Schema):
        self.inner, self.schema = inner, schema
        self.name, self.identity = inner.name, inner.identity
        described = schema if isinstance(schema, Mapping) else schema.model_json_schema()
        try:
            jsonschema.Draft202012Validator.check_schema(described)
        except jsonschema.SchemaError as error:
            raise UsageError(f"schema: {error.message} at {error.json_path}; give a JSON schema") from None
        self._validator = jsonschema.Draft202012Validator(described)
        name = re.sub(r"\W+", "_", str(described.get("title") or "answer"))[:64]
        self.format = {
            "type": "json_schema",
            "json_schema": {"name": name, "schema": dict(described), "strict": True},
        }

    async def complete(self, request: Request) -> Completion:
        """The answer, of the schema; tokens are those of all attempts. Raises CallFailed `invalid` where
        `ATTEMPTS` were not, and what `inner` raises."""
        asked = replace(request, sampling={**request.sampling, "response_format": self.format})
        into = out = 0
        hit = True
        for _ in range(ATTEMPTS):
            completion = await self.inner.complete(asked)
            into, out = into + (completion.tokens_in or 0), out + (completion.tokens_out or 0)
            hit = hit and completion.hit
            choices = tuple(choice._replace(text=_unfenced(choice.text)) for choice in completion.choices)
            wrong = next((wrong for choice in choices if (wrong := self._wrong(choice))), None)
            if wrong is None:
                return replace(completion, choices=choices, tokens_in=into, tokens_out=out, hit=hit)
            turns = [
                {"role": "assistant", "content": completion.choices[0].text or ""},
                {"role": "user", "content": f"That is not valid: {wrong}. Answer again, with the JSON alone."},
            ]
            asked = replace(asked, messages=[*asked.messages, *turns])
        raise CallFailed("invalid", f"{ATTEMPTS} answers are not of the schema; the last: {wrong}")

    async def close(self) -> None:
        """Close `inner`."""
        await self.inner.close()

    def _wrong(self, choice: Choice) -> str | None:
        """What is wrong with an answer, in one line; None if nothing is."""
        try:
            value = orjson.loads(choice.text or "")
        except orjson.JSONDecodeError as error:
            cut = " (it was cut: max_tokens)" if choice.finish_reason == "length" else ""
            return f"no JSON: {error}{cut}"
        found = min(self._validator.iter_errors(value), key=lambda error: error.json_path, default=None)
        if found:
            return f"{found.message[:300]} at {found.json_path}"
        if not isinstance(self.schema, Mapping):
            try:
                self.schema.model_validate(value)
            except pydantic.ValidationError as error:
                first = error.errors(include_url=False)[0]
                return f"{first['msg']} at {'.'.join(map(str, first['loc'])) or 'the top'}"
        return None


def _unfenced(text: str | None) -> str | None:
    fenced = _FENCED.fullmatch(text or "")
    return fenced[1] if fenced else text
