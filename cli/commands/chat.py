"""`kottos chat`."""

import sys
from typing import Annotated

import typer

from cli.commands.completion import model_names
from cli.commands.options import ApiKeyFile, AsJson, Url


def chat(
    model: Annotated[
        str, typer.Argument(help="As clients write it; `kottos models list` has them.", autocompletion=model_names)
    ],
    message: Annotated[
        list[str] | None,
        typer.Argument(help="What to say; - stands for standard input. Without it: a conversation, or what is piped."),
    ] = None,
    system: Annotated[str, typer.Option(help="What the model is told first.")] = "",
    temperature: Annotated[float | None, typer.Option(min=0.0, max=2.0, help="0 is greedy. Default: 1.")] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(metavar="NUMBER", min=1, help="Of each answer. Default: what the context has room for."),
    ] = None,
    stats: Annotated[bool, typer.Option("--stats", help="Say how fast each answer came.")] = False,
    url: Url = None,
    api_key_file: ApiKeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Talk to a model. /help says more; Ctrl-C stops an answer, Ctrl-D leaves."""
    from cli.address import find_address
    from cli.chat.once import say_once
    from cli.chat.prompt import converse
    from cli.chat.session import Asked, ChatSession
    from cli.gateway_client import GatewayClient, run_with_gateway

    asked = Asked(temperature, max_tokens)
    if not message and sys.stdin.isatty():
        if as_json:
            raise typer.BadParameter("a conversation is no JSON: give a message, or pipe one", param_hint="--json")
        converse(find_address(url, api_key_file), model, asked, system, shows_stats=stats)
        return

    async def say(client: GatewayClient) -> None:
        session = ChatSession(client, model, asked, system)
        await say_once(session, question, as_json=as_json, shows_stats=stats)

    question = _question(message or ["-"])
    if not question:
        raise typer.BadParameter("there is nothing to say", param_hint="MESSAGE")
    run_with_gateway(url, api_key_file, say)


def _question(words: list[str]) -> str:
    """The words, with what is piped in place of -."""
    texts = [f"\n\n{sys.stdin.read().strip()}\n\n" if word == "-" else word for word in words]
    return " ".join(texts).strip()
