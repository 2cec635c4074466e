"""Which family a chat template is of: the parts of published templates that tell."""

import pytest

from gateway.tools.formats import HERMES, LLAMA, MISTRAL, PHI, ToolFormat, tool_format

QWEN = (
    "{%- if tools %}{{- '<tools>' }}{%- for tool in tools %}{{- tool | tojson }}{%- endfor %}"
    '{{- \'</tools>\\n<tool_call>\\n{"name": <function-name>, "arguments": <args-json-object>}\\n</tool_call>\' }}'
    "{%- endif %}"
)
QWEN_CODER = "{%- if tools %}{{- '<tool_call>\\n<function=example_function_name>\\n<parameter=p>' }}{%- endif %}"
MISTRAL_7B = "{%- if tools is not none %}{{- '[AVAILABLE_TOOLS]' }}{%- endif %}{{- '[TOOL_CALLS]' }}"
PHI_4_MINI = (
    "{% for message in messages %}{% if message['role'] == 'system' and 'tools' in message %}"
    "{{ '<|tool|>' + message['tools'] + '<|/tool|>' }}{% endif %}{% endfor %}"
)
LLAMA_3_2 = (
    "{%- if tools is not none %}{{- 'Environment: ipython' }}{%- endif %}{{- '<|start_header_id|>' }}"
    "{{- '\"parameters\": ' }}{{- tool_call.arguments | tojson }}"
)
SMOLLM2 = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + message['content'] }}{% endfor %}"
DEEPSEEK_R1 = "{% for tool in message['tool_calls'] %}{{ '<\uff5ctool\u2581calls\u2581begin\uff5c>' }}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "form"),
    [
        (QWEN, HERMES),
        (QWEN_CODER, None),
        (MISTRAL_7B, MISTRAL),
        (PHI_4_MINI, PHI),
        (LLAMA_3_2, LLAMA),
        (SMOLLM2, None),
        (DEEPSEEK_R1, None),
        ("", None),
    ],
)
def test_the_format_of_a_template(template: str, form: ToolFormat | None) -> None:
    assert tool_format(template) is form
