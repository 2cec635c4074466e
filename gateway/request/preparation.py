"""What a call asks for, checked and completed: nothing is defaulted later, and nothing refused for its form.

check -> tokenize -> expect an answer -> complete
"""

from dataclasses import dataclass
from itertools import product

from msgspec.structs import replace

from gateway.fleet.models import Model, Models
from gateway.request import params as checks
from gateway.request.call import Call
from gateway.request.expected import ExpectedAnswer, expect
from gateway.request.prompts import Chat, Prompt, Prompts
from gateway.request.structured import Constraint, constraint
from shared.messages import Sampling

TokenIds = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PreparedSequence:
    prompt: TokenIds
    continues_text: bool  # its output goes on where its prompt ends; a chat's answer is a text of its own
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class Prepared:
    model: Model
    sequences: list[PreparedSequence]  # those of the first prompt, then those of the second, ...
    answer: ExpectedAnswer | None  # None: all of the output is text
    most_tokens: int  # that it may come to; each prompt counts once


class Preparation:
    def __init__(self, models: Models, prompts: Prompts) -> None:
        self._models = models
        self._prompts = prompts

    async def prepare(self, call: Call) -> Prepared:
        """Raises RequestError."""
        model = self._models.get(call.model)
        asked = _checked(call, model)
        context_length = self._models.context_length(model)
        prompts = [await self._prompts.token_ids(model, prompt, context_length, call.trace) for prompt in call.prompts]
        answer = _expected(model, call.prompts[0], prompts[0], asked)  # a chat is the only prompt of its call
        grammar = await self._prompts.grammar(model, answer.constraint if answer else asked, call.trace)
        sequences = _completed(call, model, prompts, context_length, grammar)
        num_output_tokens = sum(sequence.sampling.max_tokens for sequence in sequences)
        return Prepared(model, sequences, answer, sum(map(len, prompts)) + num_output_tokens)


def _checked(call: Call, model: Model) -> Constraint | None:
    """What the output has to match. Raises RequestError."""
    checks.check(call.params)
    checks.check_tokens(call.params, model.card.vocab_size)
    return constraint(call.params)


def _expected(model: Model, prompt: Prompt, token_ids: TokenIds, asked: Constraint | None) -> ExpectedAnswer | None:
    if not isinstance(prompt, Chat):
        return None
    return expect(model.dialect, prompt.options, token_ids, model.vocabulary, asked)


def _completed(
    call: Call, model: Model, prompts: list[TokenIds], context_length: int, grammar: str
) -> list[PreparedSequence]:
    """`params.n` of each prompt, which share a seed. Raises RequestError."""
    indices = range(call.params.n or 1)
    samplings = [
        checks.complete(
            call.params,
            num_prompt_tokens=len(token_ids),
            context_length=context_length,
            default_max_tokens=None if isinstance(prompt, Chat) else checks.COMPLETION_MAX_TOKENS,
            eos_token_ids=model.card.eos_token_ids,
        )
        for prompt, token_ids in zip(call.prompts, prompts, strict=True)
    ]
    checks.check_prompt_logprobs(call.params, len(indices) * sum(map(len, prompts)))
    return [
        PreparedSequence(
            token_ids, not isinstance(prompt, Chat), replace(sampling, choice_index=index, grammar=grammar)
        )
        for (prompt, token_ids, sampling), index in product(zip(call.prompts, prompts, samplings, strict=True), indices)
    ]
