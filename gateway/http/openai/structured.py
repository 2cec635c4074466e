"""The names that vLLM had before structured_outputs; many clients still send them."""

from typing import Any

from gateway.request.params import invalid
from shared.messages import GenerationParams
from shared.structured import JsonSchema, StructuredOutputs


class GuidedParams(GenerationParams, frozen=True, kw_only=True):
    guided_json: JsonSchema | str | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    structural_tag: Any = None  # refused

    def structured(self) -> StructuredOutputs | None:
        """By today's name. Raises RequestError where both are used."""
        if self.structural_tag is not None:
            raise invalid("structural_tag is not supported; use structured_outputs.grammar.", "structural_tag")
        guided = StructuredOutputs(
            json=self.guided_json, regex=self.guided_regex, choice=self.guided_choice, grammar=self.guided_grammar
        )
        if guided == StructuredOutputs():
            return self.structured_outputs
        if self.structured_outputs is not None:
            raise invalid("guided_* and structured_outputs can't be given together.", "structured_outputs")
        return guided
