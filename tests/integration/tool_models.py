"""Tiny models whose chat templates have the shape of published ones, and whose markers are tokens as theirs are."""

from pathlib import Path
from typing import Final

from tokenizers import AddedToken, Tokenizer

from shared.catalogue import open_catalogue
from shared.config import Config, GatewayConfig
from shared.ids import ModelName
from tests.unit.gateway.tiny_models import byte_level, import_model, write_source

QWEN: Final = "tiny-qwen"  # reasons, Hermes' calls, markers that are plain tokens
MISTRAL: Final = "tiny-mistral"  # markers that are special tokens, ids of nine characters
LLAMA: Final = "tiny-llama"  # calls without markers
R1: Final = "tiny-r1"  # reasoning that the prompt begins, no tools
CONTEXT_LENGTH: Final = 4096

_QWEN_TEMPLATE: Final = """\
{%- if tools %}
    {{- '<|im_start|>system\\n<tools>' }}
    {%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}
    {{- '\\n</tools>\\n<tool_call>\\n{"name": <function-name>, "arguments": <args-json-object>}\\n</tool_call>' }}
    {{- '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if message.reasoning_content %}
            {{- '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' }}
        {%- endif %}
        {{- message.content }}
        {%- for tool_call in message.tool_calls %}
            {{- '\\n<tool_call>\\n{"name": "' + tool_call.function.name + '", "arguments": ' }}
            {{- tool_call.function.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""
_MISTRAL_TEMPLATE: Final = """\
{%- if tools %}{{- '[AVAILABLE_TOOLS]' + (tools | tojson) + '[/AVAILABLE_TOOLS]' }}{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {{- '[INST]' + message.content + '[/INST]' }}
    {%- elif message.tool_calls is defined %}
        {{- '[TOOL_CALLS] [' }}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.id | length != 9 %}
                {{- raise_exception('Tool call IDs should be alphanumeric strings with length 9!') }}
            {%- endif %}
            {%- set out = tool_call.function | tojson %}
            {{- out[:-1] + ', "id": "' + tool_call.id + '"}' }}
        {%- endfor %}
        {{- ']' + eos_token }}
    {%- elif message.role == 'tool' %}
        {{- '[TOOL_RESULTS]{"content": "' + message.content + '", "call_id": "' + message.tool_call_id + '"}' }}
    {%- else %}
        {{- message.content + eos_token }}
    {%- endif %}
{%- endfor %}
"""
_LLAMA_TEMPLATE: Final = """\
{%- if tools is not none %}
    {{- '<|start_header_id|>system<|end_header_id|>\\n\\nEnvironment: ipython\\n' }}
    {%- for tool in tools %}{{- tool | tojson(indent=4) }}{%- endfor %}
    {{- '<|eot_id|>' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' }}
    {%- if 'tool_calls' in message %}
        {{- '{"name": "' + message.tool_calls[0].function.name + '", "parameters": ' }}
        {{- message.tool_calls[0].function.arguments | tojson }}
        {{- '}' }}
    {%- else %}
        {{- message.content }}
    {%- endif %}
    {{- '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}
"""
_R1_TEMPLATE: Final = """\
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if '</think>' in content %}{%- set content = content.split('</think>')[-1] %}{%- endif %}
    {{- '<|' + message.role + '|>' + content }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|><think>\\n' }}{%- endif %}
"""
_TEMPLATES: Final = {QWEN: _QWEN_TEMPLATE, MISTRAL: _MISTRAL_TEMPLATE, LLAMA: _LLAMA_TEMPLATE, R1: _R1_TEMPLATE}
_MARKERS: Final = {
    QWEN: [AddedToken(mark, special=False) for mark in ("<tool_call>", "</tool_call>", "<think>", "</think>")],
    MISTRAL: [AddedToken(mark, special=True) for mark in ("[TOOL_CALLS]", "[ARGS]", "[INST]", "[/INST]")],
    LLAMA: [AddedToken("<|python_tag|>", special=True)],
    R1: [AddedToken(mark, special=False) for mark in ("<think>", "</think>")],
}
NAMES: Final = tuple(ModelName(name) for name in _TEMPLATES)


def tokenizer(name: str) -> Tokenizer:
    copy = Tokenizer.from_str(byte_level().to_str())
    copy.add_tokens(_MARKERS[name])
    return copy


def make_tool_config(folder: Path) -> Config:
    """All of them, imported."""
    sources = tuple(write_source(folder / "sources" / name, name) for name in NAMES)
    config = Config(
        models=sources, cache_dir=folder / "cache", state_dir=folder / "state", gateway=GatewayConfig(port=0)
    )
    for name in NAMES:
        import_model(config, name, context_length=CONTEXT_LENGTH)
        assets = open_catalogue(config)[name].folder
        (assets / "chat_template.jinja").write_text(_TEMPLATES[name])
        tokenizer(name).save(str(assets / "tokenizer.json"))
    return config
