"""A server in front of another that notes what it is asked, and can keep answers back: to prove what was sent."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import aiohttp
import orjson
from aiohttp import web


class Witness:
    """What went through."""

    def __init__(self) -> None:
        self.url = ""
        """Up to /v1."""
        self.asked: list[dict[str, Any]] = []
        """The bodies, as they came."""
        self.answered = 0
        self.most: int | None = None
        """So many are put through; the others wait until it rises or is None."""
        self._through = 0

    async def put_through(self, request: web.Request, session: aiohttp.ClientSession, onto: str) -> web.Response:
        """Ask the server behind, when its turn comes."""
        raw = await request.read()
        self.asked.append(orjson.loads(raw))
        while self.most is not None and self._through >= self.most:
            await asyncio.sleep(0.01)
        self._through += 1
        headers = {"Content-Type": "application/json"}
        async with session.post(f"{onto}/{request.match_info['path']}", data=raw, headers=headers) as answer:
            body = await answer.read()
        self.answered += 1
        return web.Response(body=body, status=answer.status, headers={"Content-Type": answer.headers["Content-Type"]})


@contextmanager
def watching(onto: str) -> Iterator[Witness]:
    """A witness before the server at `onto` (up to /v1), in a thread of its own."""
    witness, ready = Witness(), Event()
    loop = asyncio.new_event_loop()
    done = asyncio.Event()

    async def serve() -> None:
        async with aiohttp.ClientSession() as session:

            async def post(request: web.Request) -> web.Response:
                return await witness.put_through(request, session, onto)

            app = web.Application()
            app.router.add_post("/v1/{path:.*}", post)
            runner = web.AppRunner(app, shutdown_timeout=0)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            witness.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
            ready.set()
            await done.wait()
            await runner.cleanup()

    thread = Thread(target=loop.run_until_complete, args=[serve()])
    thread.start()
    try:
        assert ready.wait(30)
        yield witness
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join()
        loop.close()
