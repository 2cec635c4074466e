import re

from docs.metrics_page import PAGE, page


def test_the_page_lists_what_is_measured_now() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m docs.metrics_page"


def test_names_have_our_prefix_and_base_units() -> None:
    ours = page().partition("## Names of other servers")[0]
    names = re.findall(r"^\| `(\w+)`", ours, re.MULTILINE)
    assert len(names) > 40
    assert [name for name in names if not name.startswith("kottos_")] == []
    assert [name for name in names if re.search(r"_(ms|us|mib|gib|kb|percent)\b", name)] == []
