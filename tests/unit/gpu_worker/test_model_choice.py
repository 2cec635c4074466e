import pytest

from gpu_worker.memory.arena import ALIGN_BYTES
from gpu_worker.model_choice import ModelChoice, place_of
from shared.config import PolicyName
from shared.errors import ModelError
from shared.ids import ModelName

A, B, C = (ModelName(name) for name in "abc")


def choice(policy: PolicyName, place: int = 0, num_places: int = 2) -> ModelChoice:
    return ModelChoice(policy, (A, B, C), place, num_places * ALIGN_BYTES)


def test_static_takes_what_fits_and_names_what_is_missing() -> None:
    static = choice("static", num_places=4)
    static.take(A, 2 * ALIGN_BYTES)
    static.take(B, 1)
    with pytest.raises(ModelError, match=r"'c' needs 4 MiB of weights, of 8 MiB 2 MiB are left.*worker\.policy"):
        static.take(C, ALIGN_BYTES + 1)
    static.take(C, ALIGN_BYTES)


@pytest.mark.parametrize("policy", ["round-robin", "request", "request-sjf", "dedicated"])
def test_others_take_more_than_fits_together(policy: PolicyName) -> None:
    for model in (A, B, C):
        choice(policy, num_places=1).take(model, ALIGN_BYTES)


@pytest.mark.parametrize(("place", "own"), [(0, A), (1, B), (2, C), (3, A)])
def test_dedicated_takes_one_by_its_place(place: int, own: ModelName) -> None:
    dedicated = choice("dedicated", place)
    dedicated.check_own(own)
    for other in {A, B, C} - {own}:
        with pytest.raises(ModelError, match=f"'{other}' has no place here: .* serves '{own}' alone"):
            dedicated.check_own(other)


@pytest.mark.parametrize("policy", ["round-robin", "request", "request-sjf", "static"])
def test_others_serve_every_model(policy: PolicyName) -> None:
    for model in (A, B, C):
        choice(policy, place=1).check_own(model)


@pytest.mark.parametrize(("worker", "place"), [("worker-0", 0), ("worker-12", 12), ("", 0), ("west", 0), ("gpu-x2", 0)])
def test_a_place_is_the_number_at_the_end(worker: str, place: int) -> None:
    assert place_of(worker) == place


def test_a_model_that_goes_leaves_its_place_to_another() -> None:
    static = choice("static", num_places=1)
    for model in (A, B, C):
        static.take(model, ALIGN_BYTES)
        static.release(model)
    dedicated = choice("dedicated")
    dedicated.release(B)  # which it never had
    with pytest.raises(ModelError):
        dedicated.check_own(B)
    dedicated.release(A)
    dedicated.check_own(B)
    with pytest.raises(ModelError):
        dedicated.check_own(A)
