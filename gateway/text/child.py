"""A text process: `python -m gateway.text.child` performs one job after the other until its input ends."""

import os
import resource
import sys
from array import array
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate
from typing import BinaryIO, Final

import msgspec
from tokenizers import Tokenizer

from gateway.text import grammar_trial
from gateway.text.chat import render, template_of
from gateway.text.jobs import (
    HEADER_BYTES,
    Constrain,
    Constrained,
    Decode,
    Decoded,
    Encode,
    Encoded,
    Failed,
    Job,
    Loaded,
    Render,
    Rendered,
    Reply,
    Result,
    Spell,
    Spelled,
    TextJob,
    TooLong,
    job_decoder,
    pack,
)
from shared.priority import others_first

_MAX_ADDRESS_BYTES: Final = 8 << 30  # a template that builds a huge string fails instead of filling the machine
_MAX_TOKENIZERS: Final = 64
_MAX_MESSAGE_CHARS: Final = 500


def main() -> None:
    """Replies on the original standard output; whatever a library prints goes to standard error."""
    _limit_memory()
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    from transformers import PreTrainedTokenizerFast  # without torch; half a second

    @lru_cache(maxsize=_MAX_TOKENIZERS)
    def load(folder: str) -> PreTrainedTokenizerFast:
        with others_first():
            return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)

    while (job := _read(sys.stdin.buffer)) is not None:
        if isinstance(job, Constrain):  # its tokenizer is another library's
            for reply in _constrain(job):
                _say(replies, reply)
            continue
        try:
            tokenizer = load(job.folder)
        except Exception as error:
            _say(replies, Loaded())
            _say(replies, Failed(f"The model's tokenizer can't be read ({type(error).__name__})."))
            continue
        _say(replies, Loaded())
        _say(replies, _perform(job, tokenizer))


def _constrain(job: Constrain) -> Iterator[Reply]:
    try:
        with others_first():
            grammar_trial.load(job.folder)
    except Exception as error:
        yield Loaded()
        yield Failed(f"The model's outputs can't be guided: {str(error)[:_MAX_MESSAGE_CHARS]}")
        return
    yield Loaded()
    try:
        yield Constrained(grammar_trial.constrain(job.folder, job.kind, job.text))
    except Exception as error:
        yield Failed(f"It can't be kept: {str(error)[:_MAX_MESSAGE_CHARS] or type(error).__name__}")


def _perform(job: TextJob, tokenizer) -> Result:  # type: ignore[no-untyped-def]  # transformers is imported late
    try:
        if isinstance(job, Render):
            return Rendered(render(tokenizer, job.messages, job.options))
        if isinstance(job, Spell):
            return msgspec.structs.replace(spell(tokenizer.backend_tokenizer), chat_template=template_of(tokenizer))
        if isinstance(job, Decode):
            return Decoded(tokenizer.backend_tokenizer.decode(list(job.token_ids), skip_special_tokens=False))
        return _encode(job, tokenizer)
    except Exception as error:
        what = "The tokens can't be listed" if isinstance(job, Spell) else "The text can't be tokenized"
        what = "The chat template refuses these messages" if isinstance(job, Render) else what
        return Failed(f"{what}: {str(error)[:_MAX_MESSAGE_CHARS] or type(error).__name__}")


def _encode(job: Encode, tokenizer) -> Result:  # type: ignore[no-untyped-def]
    encoding = tokenizer(
        job.text, add_special_tokens=job.add_special_tokens, return_attention_mask=False, verbose=False
    )
    token_ids = encoding["input_ids"]
    if len(token_ids) > job.max_tokens:
        return TooLong(len(token_ids))
    return Encoded(tuple(token_ids), tuple(tokenizer.convert_ids_to_tokens(token_ids)) if job.with_tokens else ())


def spell(tokenizer: Tokenizer) -> Spelled:
    num_ids = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1
    texts = [(tokenizer.id_to_token(token_id) or "").encode() for token_id in range(num_ids)]
    special_ids = tuple(i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special)
    decoder = "null" if tokenizer.decoder is None else tokenizer.decoder.__getstate__().decode()
    return Spelled(b"".join(texts), array("I", accumulate(map(len, texts))).tobytes(), special_ids, decoder)


def _limit_memory() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    soft = _MAX_ADDRESS_BYTES if hard == resource.RLIM_INFINITY else min(_MAX_ADDRESS_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _read(stream: BinaryIO) -> Job | None:
    header = stream.read(HEADER_BYTES)
    if len(header) < HEADER_BYTES:
        return None
    return job_decoder.decode(stream.read(int.from_bytes(header, "big")))


def _say(stream: BinaryIO, reply: Reply) -> None:
    stream.write(pack(reply))
    stream.flush()


if __name__ == "__main__":
    main()
