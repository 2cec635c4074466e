"""Generates text through the message bus, as an internal service would.

set -a; . /tmp/kottos-run-XXXXXXXX/client.env  # the path that `kottos serve` prints; or set KOTTOS_BUS_URL, ...
python examples/generate.py smollm2-135m "Once upon a time"
"""

import argparse
import asyncio
import os

from shared.client import KottosClient
from shared.config import BusConfig
from shared.errors import KottosError
from shared.messages import ChatMessage, GenerationParams


async def generate(bus: BusConfig, model: str, prompt: str, *, chat: bool, params: GenerationParams) -> None:
    async with KottosClient(bus) as client:
        if chat:
            pieces = client.generate(model, chat=[ChatMessage("user", prompt)], params=params)
        else:
            pieces = client.generate(model, text=prompt, params=params)
        async for piece in pieces:
            print(piece.text, end="", flush=True)
            if piece.finish_reason is not None:
                print(f"\n[{piece.finish_reason}: {piece.num_prompt_tokens} + {piece.num_output_tokens} tokens]")


def main() -> None:
    parser = argparse.ArgumentParser(description="Generate text through the message bus.")
    parser.add_argument("model")
    parser.add_argument("prompt")
    parser.add_argument("--chat", action="store_true", help="send the prompt as a user's message")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--nats", default=os.environ.get("KOTTOS_BUS_URL", "nats://127.0.0.1:4222"), metavar="URL")
    parser.add_argument("--user", default=os.environ.get("KOTTOS_BUS_USER", ""))
    parser.add_argument("--password", default=os.environ.get("KOTTOS_BUS_PASSWORD", ""))
    args = parser.parse_args()
    bus = BusConfig(args.nats, args.user, args.password)
    params = GenerationParams(max_tokens=args.max_tokens, temperature=args.temperature)
    try:
        asyncio.run(generate(bus, args.model, args.prompt, chat=args.chat, params=params))
    except KottosError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
