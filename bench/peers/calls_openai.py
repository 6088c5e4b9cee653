"""AsyncOpenAI: a semaphore and a loop, as its users write it, every answer a line of JSONL.

PROMPTS.jsonl OUT.jsonl URL IN_FLIGHT; prints the seconds it took. Its own client (httpx, 1,000 connections); with
GRISTMILL_BENCH_AIOHTTP set, its other one (`openai[aiohttp]`).
"""

import asyncio
import json
import os
import sys
import time

from openai import AsyncOpenAI, DefaultAioHttpClient


async def main() -> None:
    source, out, url, in_flight = sys.argv[1:]
    http = DefaultAioHttpClient() if os.environ.get("GRISTMILL_BENCH_AIOHTTP") else None
    client = AsyncOpenAI(base_url=url, api_key="none", http_client=http)
    turn = asyncio.Semaphore(int(in_flight))
    with open(source) as lines, open(out, "w") as answers:

        async def ask(prompt: str) -> None:
            async with turn:
                answer = await client.chat.completions.create(
                    model="mock", messages=[{"role": "user", "content": prompt}]
                )
            row = {"prompt": prompt, "response": answer.choices[0].message.content}
            answers.write(json.dumps(row) + "\n")

        await asyncio.gather(*[ask(json.loads(line)["prompt"]) for line in lines])


started = time.monotonic()
asyncio.run(main())
print(time.monotonic() - started)
