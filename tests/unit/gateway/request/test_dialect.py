from gateway.output.reasoning import ReasoningFormat
from gateway.request.dialect import Dialect, dialect_of
from gateway.tools.formats import HERMES


def test_the_template_names_the_dialect() -> None:
    template = "{% if tools %}<tool_call>{% endif %}{% if enable_thinking %}<think>{% endif %}"
    assert dialect_of(template) == Dialect(HERMES, ReasoningFormat("<think>", "</think>"))
    assert dialect_of("{{ message.content }}") == Dialect()
