"""Prints what happens in a running Kottos, one JSON object per line, until interrupted.

set -a; . /tmp/kottos-run-XXXXXXXX/client.env  # the path that `kottos serve` prints; or set KOTTOS_BUS_URL, ...
python examples/watch_events.py "kottos.event.model.*"
"""

import argparse
import asyncio
import contextlib
import json
import os

import msgspec

from shared import subjects
from shared.client import KottosClient
from shared.config import BusConfig
from shared.errors import KottosError


async def watch(bus: BusConfig, subject: str, num_events: int | None) -> None:
    async with KottosClient(bus) as client:
        num_seen = 0
        async for event in client.events(subject):
            print(json.dumps({"event": type(event).__name__, **msgspec.structs.asdict(event)}), flush=True)
            num_seen += 1
            if num_seen == num_events:
                break


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the events of a running Kottos.")
    parser.add_argument("subject", nargs="?", default=subjects.EVENTS, help="which events (default: all)")
    parser.add_argument("--count", type=int, help="end after so many events")
    parser.add_argument("--nats", default=os.environ.get("KOTTOS_BUS_URL", "nats://127.0.0.1:4222"), metavar="URL")
    parser.add_argument("--user", default=os.environ.get("KOTTOS_BUS_USER", ""))
    parser.add_argument("--password", default=os.environ.get("KOTTOS_BUS_PASSWORD", ""))
    args = parser.parse_args()
    bus = BusConfig(args.nats, args.user, args.password)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(watch(bus, args.subject, args.count))
    except KottosError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
