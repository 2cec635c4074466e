"""The page's files fit together, load nothing from elsewhere, and put no text into the page as markup."""

import re

import pytest

from gateway.http.dashboard import ASSET_TYPES, load_assets

ASSETS = load_assets()
TEXTS = {name: asset.body.decode() for name, asset in ASSETS.items()}
PAGE = TEXTS["index.html"]
SCRIPTS = {name: text for name, text in TEXTS.items() if name.endswith(".js")}
IDS = re.findall(r'\bid="([^"]+)"', PAGE)


def loaded() -> set[str]:
    """What the page loads, and what that loads."""
    found = {name for name in re.findall(r'(?:src|href)="dashboard/([^"]+)"', PAGE)}
    while more := {name for text in map(TEXTS.__getitem__, found) for name in imports(text)} - found:
        found |= more
    return found


def imports(text: str) -> set[str]:
    return set(re.findall(r'from "\./([^"]+)"', text))


def test_the_page_loads_all_of_its_files_and_no_others() -> None:
    assert loaded() | {"index.html"} == set(ASSETS)


def test_every_file_has_a_type_of_its_own_name() -> None:
    assert {asset.content_type for asset in ASSETS.values()} == set(ASSET_TYPES.values())


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_nothing_comes_from_elsewhere_and_no_text_becomes_markup(name: str) -> None:
    text = TEXTS[name].replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|@import|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", text)
    assert not (name.endswith(".css") and "url(" in text)
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|\sstyle=|<style", text)


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_what_is_imported_is_exported_and_used(name: str) -> None:
    for names, source in re.findall(r'import \{([^}]*)\} from "\./([^"]+)"', SCRIPTS[name]):
        for imported in re.findall(r"\w+", names):
            assert re.search(rf"export (?:async )?(?:const|function\*?|class) {imported}\b", SCRIPTS[source]), imported
            assert len(re.findall(rf"\b{imported}\b", SCRIPTS[name])) > 1, imported


def test_elements_that_scripts_look_for_are_there_once() -> None:
    looked_for = {found for text in SCRIPTS.values() for found in re.findall(r'byId\("([^"]+)"\)', text)}
    assert looked_for and looked_for <= set(IDS)
    assert len(IDS) == len(set(IDS))
    referred = set(" ".join(re.findall(r'aria-(?:labelledby|describedby)="([^"]+)"', PAGE)).split())
    assert referred <= set(IDS)
