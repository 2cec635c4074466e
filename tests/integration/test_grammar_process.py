"""A process that follows grammars: says what one in this process would say, and is missed when it is gone."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from llguidance import LLExecutor
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask_par

from gpu_worker.guidance.grammars import Grammars
from gpu_worker.guidance.guide import Guide
from gpu_worker.guidance.process import GrammarProcess, GuidesLost, ProcessGuide
from gpu_worker.guidance.protocol import Row
from shared.errors import GrammarError
from shared.grammar import to_grammar
from tests.unit.gateway.tiny_models import EOS_ID, byte_level

GRAMMARS = [to_grammar("regex", "[0-9]{3,9}x?"), to_grammar("json", '{"type": "array", "items": {"type": "boolean"}}')]
STOP_IDS = (EOS_ID,)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("model")
    byte_level().save(str(made / "tokenizer.json"))
    return made


@pytest.fixture
def process(folder: Path) -> Iterator[GrammarProcess]:
    opened = GrammarProcess(folder, max_rows=4)
    yield opened
    opened.close()


def masks_of(process: GrammarProcess, guides: Sequence[ProcessGuide], *, may_stop: bool = True) -> list[list[int]]:
    number = process.ask_masks([Row(guide.key, STOP_IDS, may_stop) for guide in guides])
    masks = process.masks(number, guides)
    assert masks is not None
    return [allowed(mask) for mask in masks]


def allowed(mask: np.ndarray) -> list[int]:
    return np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")).tolist()


def masks_here(guides: Sequence[Guide]) -> list[list[int]]:
    masks = allocate_token_bitmask(len(guides), guides[0].num_ids)
    fill_next_token_bitmask_par(LLExecutor(num_threads=1), [(g.matcher, i) for i, g in enumerate(guides)], masks)  # type: ignore[misc]
    for bits, guide in zip(masks.view(np.uint32), guides, strict=True):
        guide.settle(bits, STOP_IDS, may_stop=True)
    return [allowed(mask) for mask in masks]


def test_masks_and_verdicts_are_those_of_the_library_here_token_by_token(process: GrammarProcess, folder: Path) -> None:
    here = Grammars(folder)
    theirs = [process.guide(grammar, ()) for grammar in GRAMMARS]
    ours = [here.guide(grammar, ()) for grammar in GRAMMARS]
    chance = random.Random(3)
    outputs: list[list[int]] = [[] for _ in GRAMMARS]
    for _ in range(12):
        masks = masks_here(ours)
        assert masks_of(process, theirs) == masks
        drawn = [chance.choice([i for i in mask if i != EOS_ID] or [EOS_ID]) for mask in masks]
        process.judge([(guide, i) for guide, i in zip(theirs, drawn, strict=True) if not guide.is_complete])
        for output, token_id, ours_, theirs_ in zip(outputs, drawn, ours, theirs, strict=True):
            belongs = ours_.accept(token_id, is_stop=False)
            assert theirs_.accept(token_id, is_stop=False) == belongs
            assert (theirs_.failure, theirs_.is_complete) == (ours_.failure, ours_.is_complete)
            output += [token_id] * belongs
    again = [process.guide(grammar, output) for grammar, output in zip(GRAMMARS, outputs, strict=True)]
    assert [guide.is_complete for guide in again] == [guide.is_complete for guide in theirs]
    assert masks_of(process, again) == masks_of(process, theirs)


def test_a_token_that_does_not_match_fails_its_guide_alone(process: GrammarProcess) -> None:
    good, bad = process.guide(GRAMMARS[0], ()), process.guide(GRAMMARS[0], ())
    letter, digit = (byte_level().encode(text, add_special_tokens=False).ids[0] for text in ("x", "7"))
    process.judge([(good, digit), (bad, letter)])
    assert (good.accept(digit, is_stop=False), bad.accept(letter, is_stop=False)) == (True, False)
    assert (good.failure, bool(bad.failure)) == ("", True)
    assert bad.accept(EOS_ID, is_stop=True) is False


def test_before_its_min_tokens_it_may_not_stop(process: GrammarProcess) -> None:
    guide = process.guide(to_grammar("regex", "[0-9]*"), ())
    assert EOS_ID in masks_of(process, [guide])[0]
    assert EOS_ID not in masks_of(process, [guide], may_stop=False)[0]
    assert guide.accept(EOS_ID, is_stop=True)


def test_what_a_failed_step_left_is_skipped(process: GrammarProcess) -> None:
    guide = process.guide(GRAMMARS[0], ())
    process.ask_masks([Row(guide.key, STOP_IDS, True)])  # and nobody waits for it
    masks_of(process, [guide])
    assert len(masks_of(process, [guide])) == 1


def test_a_grammar_that_cannot_be_compiled_costs_no_other_one(process: GrammarProcess) -> None:
    with pytest.raises(GrammarError):
        process.guide("start: nothing", ())
    with pytest.raises(GrammarError, match="does not match"):
        process.guide(GRAMMARS[0], byte_level().encode("xx", add_special_tokens=False).ids)
    assert process.guide(GRAMMARS[0], ()).failure == ""


def test_guides_that_nobody_has_are_forgotten(process: GrammarProcess) -> None:
    guides = [process.guide(GRAMMARS[0], ()) for _ in range(3)]
    assert not process.is_idle
    keys = {guide.key for guide in guides}
    guides.clear()
    assert process.is_idle and set(process._forgotten) == keys
    process.guide(GRAMMARS[0], ())
    assert not keys & set(process._forgotten)  # the child was told


def test_a_process_that_is_gone_is_missed_at_once(process: GrammarProcess) -> None:
    guide = process.guide(GRAMMARS[0], ())
    assert process._child is not None
    process._child.kill()
    assert process.masks(process.ask_masks([Row(guide.key, STOP_IDS, True)]), [guide]) is None
    process.judge([(guide, EOS_ID)])
    assert (guide.is_lost, guide.accept(EOS_ID, is_stop=True)) == (True, False)
    with pytest.raises(GuidesLost):
        process.guide(GRAMMARS[0], ())


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    process = GrammarProcess(tmp_path, max_rows=1)
    try:
        with pytest.raises(GrammarError, match="tokenizer"):
            process.guide(GRAMMARS[0], ())
    finally:
        process.close()
