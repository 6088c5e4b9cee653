"""AsyncOpenAI: a semaphore and a loop, as its users write it, every answer a line of JSONL.

PROMPTS.jsonl OUT.jsonl URL IN_FLIGHT [aiohttp]: with its default HTTP client (httpx2, 1,000 connections), or its other.
"""

import asyncio
import json
import sys
from pathlib import Path

from openai import AsyncOpenAI, DefaultAioHttpClient


async def main() -> None:
    source, out, url, in_flight, *other = sys.argv[1:]
    http = DefaultAioHttpClient() if other else None
    # Its own 5 s for a connection are too short for 1,000 at once on a busy machine: one error ends the loop.
    client = AsyncOpenAI(base_url=url, api_key="none", http_client=http, timeout=600)
    turn = asyncio.Semaphore(int(in_flight))
    with Path(source).open() as lines, Path(out).open("w") as answers:

        async def ask(prompt: str) -> None:
            async with turn:
                answer = await client.chat.completions.create(
                    model="mock", messages=[{"role": "user", "content": prompt}]
                )
            row = {"prompt": prompt, "response": answer.choices[0].message.content}
            answers.write(json.dumps(row) + "\n")

        await asyncio.gather(*[ask(json.loads(line)["prompt"]) for line in lines])


asyncio.run(main())
