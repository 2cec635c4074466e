"""What a call asks for, by OpenTelemetry's names for generative AI.

https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans
"""

from typing import Final

import msgspec

from gateway.request.call import Call
from gateway.request.prompts import Chat, Prompt, Text
from gateway.tracing.request_trace import RequestTrace, clipped
from shared.messages import GenerationParams
from shared.spans import Value

PROVIDER: Final = "kottos"
_SAME_NAMES: Final = (
    "max_tokens", "temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty", "seed",
)  # fmt: skip


def describe(trace: RequestTrace, call: Call) -> None:
    """What was asked, once it is known. Stop strings, grammars and tools are content, and in no trace."""
    trace.num_choices = call.params.n or 1
    trace.attributes |= {
        "gen_ai.operation.name": "chat" if isinstance(call.prompts[0], Chat) else "text_completion",
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": call.model,
        "gen_ai.response.id": call.call_id,
        "gen_ai.response.model": call.model,
        "kottos.tenant": call.tenant.id,
    }
    trace.attributes |= _params(call.params)
    if trace.keeps_content:
        trace.attributes["gen_ai.input.messages"] = _input_messages(call.prompts)


def output_messages(trace: RequestTrace, finish_reasons: list[str]) -> str:
    """Of all choices, as JSON."""
    return _json(
        [
            {"role": "assistant", "parts": [_part(trace.outputs.get(index, ""))], "finish_reason": reason}
            for index, reason in enumerate(finish_reasons)
        ]
    )


def _params(params: GenerationParams) -> dict[str, Value]:
    asked: dict[str, Value] = {
        f"gen_ai.request.{name}": value for name in _SAME_NAMES if (value := getattr(params, name)) is not None
    }
    if params.n is not None and params.n != 1:
        asked["gen_ai.request.choice.count"] = params.n
    return asked


def _input_messages(prompts: tuple[Prompt, ...]) -> str:
    """As JSON. Token ids are no text: they are left out."""
    messages: list[dict[str, object]] = []
    for prompt in prompts:
        if isinstance(prompt, Text):
            messages.append({"role": "user", "parts": [_part(prompt.text)]})
        elif isinstance(prompt, Chat):
            messages += [{"role": message.role, "parts": [_part(message.content)]} for message in prompt.messages]
    return _json(messages)


def _part(text: str) -> dict[str, str]:
    return {"type": "text", "content": clipped(text)}


def _json(messages: list[dict[str, object]]) -> str:
    return msgspec.json.encode(messages).decode()
