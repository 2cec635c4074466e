"""What a person sees once the stack serves: where, which models, and a first request to paste."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ShownModel:
    name: str
    state: str  # resident | cached | loading
    has_chat_template: bool


def base_url(host: str, port: int) -> str:
    """Where a client on this machine reaches a gateway that listens on `host`."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def banner(url: str, models: Sequence[ShownModel], client_env: Path | None = None, *, needs_key: bool = False) -> str:
    """`client_env`: what internal services need to reach the embedded bus."""
    width = max((len(model.name) for model in models), default=0)
    lines = [f"Kottos serves at {url}", ""]
    lines += [f"  {model.name:<{width}}  {model.state}" for model in models]
    ready = [model for model in models if model.state in ("resident", "cached")] or models
    if ready:
        first = max(ready, key=lambda model: model.has_chat_template)  # the first of them, chat models before others
        hint = "Try it, with an API key as $KEY:" if needs_key else "Try it:"
        lines += ["", hint, "", curl_line(url, first, needs_key=needs_key)]
    if not needs_key:
        lines += ["", "Without API keys it serves this machine alone: `kottos keys create` makes one."]
    if client_env is not None:
        lines += ["", f"Internal services reach the bus with what is in {client_env}", "(examples/ shows how)."]
    lines += ["", f"Metrics of each service: {url}/metrics/targets"]
    lines += ["", "Ctrl-C stops everything."]
    return "\n".join(lines)


def curl_line(url: str, model: ShownModel, *, needs_key: bool = False) -> str:
    """A request that works when pasted into a shell, where KEY is set if it needs one."""
    body: dict[str, object] = {"model": model.name, "max_tokens": 32, "temperature": 0}
    if model.has_chat_template:
        route = "chat/completions"
        body["messages"] = [{"role": "user", "content": "What is the capital of France?"}]
    else:
        route = "completions"
        body["prompt"] = "The capital of France is"
    arguments = ["curl", f"{url}/v1/{route}", "-H", "Content-Type: application/json", "-d", json.dumps(body)]
    line = " ".join(shlex.quote(argument) for argument in arguments)
    return line.replace(" -H ", ' -H "Authorization: Bearer $KEY" -H ', 1) if needs_key else line
