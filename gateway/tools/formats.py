"""How model families write tool calls. A model's chat template says which family it is of.

| family | example |
|---|---|
| hermes (Qwen, SmolLM3) | `<tool_call>{"name": "f", "arguments": {}}</tool_call>`, each call in a pair |
| mistral | `[TOOL_CALLS] [{"name": "f", "arguments": {}}]`, and of late `[TOOL_CALLS]f[ARGS]{}` for each call |
| phi (Phi-4-mini) | `<|tool_call|>[{"name": "f", "arguments": {}}]<|/tool_call|>` |
| llama (3.1 and later, JSON) | the whole answer is `{"name": "f", "parameters": {}}`, perhaps after `<|python_tag|>` |
"""

from dataclasses import dataclass, replace
from typing import Final, Literal

ARGS: Final = "[ARGS]"
CALL_ID: Final = "[CALL_ID]"


@dataclass(frozen=True, slots=True)
class ToolFormat:
    name: str
    style: Literal["pairs", "list", "heads", "bare"]  # how its own models write several calls, or one
    openings: tuple[str, ...]  # what calls begin with; the first is what its models write today
    closing: str = ""  # what ends them, if anything does
    arguments_key: str = "arguments"
    takes_heads: bool = False  # after the opening there may be NAME[ARGS] and the arguments
    separator: str = ""  # between calls that are in no list
    has_short_ids: bool = False  # 9 letters and digits

    @property
    def begins_bare(self) -> bool:
        """An answer that begins with an object is a call, without any opening."""
        return self.style == "bare"

    @property
    def markers(self) -> tuple[str, ...]:
        """The texts that may be tokens of their own."""
        inner = (ARGS, CALL_ID) if self.takes_heads else ()
        return tuple(filter(None, (*self.openings, self.closing, *inner)))


HERMES: Final = ToolFormat("hermes", "pairs", ("<tool_call>",), "</tool_call>")
MISTRAL: Final = ToolFormat("mistral", "list", ("[TOOL_CALLS]",), takes_heads=True, has_short_ids=True)
MISTRAL_HEADS: Final = replace(MISTRAL, style="heads")
PHI: Final = ToolFormat("phi", "list", ("<|tool_call|>", "functools"), "<|/tool_call|>")
LLAMA: Final = ToolFormat("llama", "bare", ("<|python_tag|>",), arguments_key="parameters", separator=";")
_OTHER_IN_TOOL_CALL: Final = ("<function=", "<arg_key>")  # Qwen3-Coder's and GLM's, which are no JSON


def tool_format(template: str) -> ToolFormat | None:
    """None where the chat template has no tools, or writes calls in a way that is not known here."""
    if "tools" not in template:
        return None
    if "<tool_call>" in template:
        return None if any(mark in template for mark in _OTHER_IN_TOOL_CALL) else HERMES
    if "[TOOL_CALLS]" in template:
        return MISTRAL_HEADS if ARGS in template else MISTRAL
    if any(mark in template for mark in ("<|tool|>", "<|tool_call|>", "functools[")):
        return PHI
    return LLAMA if "<|start_header_id|>" in template and '"parameters": ' in template else None
