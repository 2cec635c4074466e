"""Tokenizers small enough to make in a test, and catalogue folders around them."""

from functools import cache
from pathlib import Path

import msgspec
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from gateway.output.vocabulary import Vocabulary
from gateway.text.child import spell
from gateway.text.jobs import Spelled
from shared.catalogue import KvShape, ModelCard, open_catalogue
from shared.config import Config, ModelSource
from shared.errors import ErrorCode, RequestError
from shared.ids import ModelName

BOS, EOS = "<bos>", "<eos>"
BOS_ID, EOS_ID = 0, 1
CORPUS = ["The quick brown fox jumps over the lazy dog. Grüße, naïve café, 日本語のテキスト 🎉👩‍👩‍👧 done"] * 4
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message.role == 'angry' %}{{ raise_exception('no angry messages') }}{% endif %}"
    "{% if message.role == 'endless' %}{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    "{% endif %}"
    "{{ message.role }}: {{ message.content }}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)


@cache
def byte_level() -> Tokenizer:
    """As GPT-2's, Llama 3's, SmolLM2's: a token is any run of bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, BOS_ID)])
    return tokenizer


@cache
def byte_fallback() -> Tokenizer:
    """As Llama 2's and Gemma's: pieces with a visible space, single bytes for the rest, a leading space taken off."""
    pieces = [BOS, EOS, "<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdefghijklmnop", "▁a", "▁b"]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(
        models.BPE(vocab, [("▁", "a"), ("▁", "b")], unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    tokenizer.add_special_tokens([AddedToken(BOS, special=True), AddedToken(EOS, special=True)])
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def vocabulary(tokenizer: Tokenizer) -> Vocabulary:
    return Vocabulary(spell(tokenizer))


async def spell_folder(folder: Path) -> Spelled:
    """As a text process does. Raises RequestError."""
    try:
        return spell(Tokenizer.from_file(str(folder / "tokenizer.json")))
    except Exception as error:
        raise RequestError(ErrorCode.INVALID_REQUEST, "The model's tokenizer can't be read.") from error


def card(*, context_length: int = 128, has_chat_template: bool = True) -> ModelCard:
    return ModelCard(
        architecture="LlamaForCausalLM",
        context_length=context_length,
        vocab_size=byte_level().get_vocab_size(),
        eos_token_ids=(EOS_ID,),
        bos_token_id=BOS_ID,
        kv=KvShape(2, 2, 8),
        has_chat_template=has_chat_template,
        num_parameters=1000,
    )


def write_source(folder: Path, name: str) -> ModelSource:
    """What `--model NAME=PATH` names; its content is never read here."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(msgspec.json.encode({"name": name}).decode())
    return ModelSource(name, str(folder))


def write_text_assets(folder: Path, *, has_chat_template: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    byte_level().save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BOS, "eos_token": EOS}
    (folder / "tokenizer_config.json").write_bytes(msgspec.json.encode(settings))
    if has_chat_template:
        (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)


def import_model(config: Config, name: str, **about: int | bool) -> None:
    """Puts a configured model's card and text assets where its importer would."""
    folder = open_catalogue(config)[ModelName(name)].folder
    model_card = card(**about)  # type: ignore[arg-type]
    write_text_assets(folder, has_chat_template=model_card.has_chat_template)
    (folder / "card.new").write_bytes(msgspec.json.encode(model_card))
    (folder / "card.new").rename(folder / "card.json")  # a gateway may be looking
