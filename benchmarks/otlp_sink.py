"""`python -m benchmarks.otlp_sink`: a collector that takes everything and keeps nothing. Prints its port."""

import asyncio

from aiohttp import web


async def main() -> None:
    num_batches = 0

    async def take(request: web.Request) -> web.Response:
        nonlocal num_batches
        await request.read()
        num_batches += 1
        return web.Response()

    async def count(request: web.Request) -> web.Response:
        return web.Response(text=str(num_batches))

    app = web.Application(client_max_size=64 << 20)
    app.add_routes([web.post("/v1/traces", take), web.get("/batches", count)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
