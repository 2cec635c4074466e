"""What every device back end does alike. A new back end adds its name to BACK_ENDS."""

import random
import threading

import pytest
import torch

from gpu_worker.device.base import Device
from gpu_worker.device.select import open_device
from gpu_worker.memory.slab_pool import SlabPool
from shared.errors import ConfigError
from tests.contract.paged_attention import QUANTUM_BYTES, Case, Model, garbage, layout_of, open_model

BACK_ENDS = ("cpu",)
MIB = 1 << 20


@pytest.fixture(params=BACK_ENDS)
def device(request: pytest.FixtureRequest) -> Device:
    return open_device(request.param, unified=False)


def test_an_unknown_device_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"worker\.device: .*'abacus'"):
        open_device("abacus", unified=False)


# --- memory -------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_bytes", [1, 4096, 3 * MIB + 5])
def test_memory_is_bytes_aligned_for_any_tensor(device: Device, num_bytes: int) -> None:
    regions = [device.allocate(num_bytes) for _ in range(3)]
    for number, region in enumerate(regions):
        region.fill_(number)
        assert (region.shape, region.dtype, region.device.type) == ((num_bytes,), torch.uint8, device.torch_device.type)
        assert region.data_ptr() % (2 * MIB) == 0
    assert [region.unique().tolist() for region in regions] == [[0], [1], [2]]


@pytest.mark.parametrize("num_bytes", [1, 4097, 3 * MIB + 5])
def test_copies_arrive_byte_for_byte_before_their_event(device: Device, num_bytes: int) -> None:
    source = torch.randint(256, (num_bytes,), dtype=torch.uint8)
    region = device.allocate(num_bytes + 7).fill_(0)
    event = device.copy(region[3 : 3 + num_bytes], source)
    event.wait()
    assert event.done()
    assert torch.equal(region.cpu()[3 : 3 + num_bytes], source)
    assert region[:3].count_nonzero() == region[3 + num_bytes :].count_nonzero() == 0
    within = device.allocate(num_bytes)
    device.copy(within, region[3 : 3 + num_bytes]).wait()
    back = torch.zeros_like(source)
    device.copy(back, within).wait()
    assert torch.equal(back, source)


@pytest.mark.parametrize("link_bytes_per_s", [None, float(1 << 40)])
@pytest.mark.parametrize("name", BACK_ENDS)
def test_a_closed_device_leaves_no_thread(name: str, link_bytes_per_s: float | None) -> None:
    before = set(threading.enumerate())
    device = open_device(name, unified=False, link_bytes_per_s=link_bytes_per_s)
    region = device.allocate(2 * MIB)
    device.copy_blocks(region[:MIB], region[MIB:], [(0, 0)], MIB, lambda: None).wait()
    assert set(threading.enumerate()) > before
    device.close()
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("link_bytes_per_s", [None, float(1 << 40)])
def test_blocks_are_copied_byte_for_byte_and_nothing_else(link_bytes_per_s: float | None) -> None:
    for name in BACK_ENDS:
        device = open_device(name, unified=False, link_bytes_per_s=link_bytes_per_s)
        on_device, in_host = device.allocate(12 * MIB), torch.randint(256, (12 * MIB,), dtype=torch.uint8)
        block_bytes, done = 3 * MIB - 4096, threading.Event()
        expected = torch.zeros(12 * MIB, dtype=torch.uint8)
        offsets = [(3 * MIB, 0), (0, 9 * MIB), (8 * MIB, 4 * MIB)]
        for into, out_of in offsets:
            expected[into : into + block_bytes] = in_host[out_of : out_of + block_bytes]
        on_device.fill_(0)
        event = device.copy_blocks(on_device, in_host, offsets, block_bytes, done.set)
        assert done.wait(10)
        assert event.done()
        event.wait()
        assert torch.equal(on_device.cpu(), expected)
        back = torch.zeros_like(expected)
        device.copy_blocks(back, on_device, [(into, into) for into, _ in offsets], block_bytes, lambda: None).wait()
        assert torch.equal(back, expected)


# --- paged attention ----------------------------------------------------------------------------

WINDOWS = [(None, None), (5, 5), (16, 16), (100, 100), (7, None)]
CASES = [
    *(Case(head_dim=head_dim) for head_dim in (24, 64, 80, 256)),
    *(Case(num_heads=num_heads, num_kv_heads=kv) for num_heads, kv in ((4, 4), (8, 1), (6, 3))),
    *(Case(head_dim=24, windows=windows) for windows in WINDOWS[1:]),
    Case(spare_bytes=0),
    Case(softcap=2.0),
    Case(softcap=2.0, windows=(7, None), num_kv_heads=4),
    Case(dtype=torch.bfloat16),
    Case(dtype=torch.bfloat16, windows=(7, None), softcap=2.0, head_dim=80),
]


def name_of(case: Case) -> str:
    windows = "-".join(map(str, case.windows))
    heads = f"{case.head_dim}x{case.num_heads}of{case.num_kv_heads}"
    return f"{case.dtype}-{heads}-window{windows}-cap{case.softcap}-spare{case.spare_bytes}"


@pytest.fixture(params=CASES, ids=name_of)
def model(request: pytest.FixtureRequest, device: Device) -> Model:
    return open_model(device, request.param)


def test_prompts_only(model: Model) -> None:
    model.step([(model.stream(n), n) for n in (33, 2, 16, 40)])


def test_first_tokens_only(model: Model) -> None:
    """Prompts of one token look like decode steps."""
    model.step([(model.stream(1), 1) for _ in range(3)])


def test_decode_over_block_borders(model: Model) -> None:
    streams = [model.stream(n) for n in (24, 40, 56)]
    model.step([(stream, n) for stream, n in zip(streams, (14, 30, 47), strict=True)])
    for _ in range(4):
        model.step([(stream, 1) for stream in streams])


def test_a_prompt_in_chunks(model: Model) -> None:
    stream = model.stream(60)
    for num_new in (3, 13, 1, 20, 16, 7):  # within a block, to its end, one token, over borders, a block
        model.step([(stream, num_new)])


def test_chunks_and_decode_together(model: Model) -> None:
    decoding, late, prompt = model.stream(34), model.stream(20), model.stream(50)
    model.step([(decoding, 31)])
    model.step([(late, 17), (decoding, 1), (prompt, 20)])
    model.step([(prompt, 25), (decoding, 1), (late, 1)])
    model.step([(decoding, 1), (late, 2), (prompt, 1)])


def test_any_schedule(model: Model) -> None:
    rng = random.Random(3)
    streams = [model.stream(rng.randrange(20, 48)) for _ in range(4)]
    while live := [s for s in streams if s.num_computed < s.query.shape[2]]:
        chosen = rng.sample(live, rng.randint(1, len(live)))
        model.step([(s, min(rng.choice((1, 1, 5, 16)), s.query.shape[2] - s.num_computed)) for s in chosen])


def test_a_reused_block_shows_nothing_of_its_former_owner(model: Model) -> None:
    former = model.stream(48)
    former.key *= 30
    former.value *= 1e4
    former.value[:, :, 1::3] = torch.inf
    model.kv.prepare([model.span(former, 48)]).attend(
        0, former.query[0][None], former.key[0][None], former.value[0][None], 1.0, None, None
    )
    model.end(former)
    for num_new in (48, 17):
        stream = model.stream(num_new + 1)
        model.step([(stream, num_new)])
        model.step([(stream, 1)])
        model.end(stream)


def test_other_blocks_stay_as_they_are(device: Device) -> None:
    model = open_model(device, Case())
    region, layout = model.kv_region, model.layout
    stream = model.stream(40)
    model.step([(stream, 39)])
    model.step([(stream, 1)])
    own = torch.zeros(region.numel(), dtype=torch.bool)
    for block_id in stream.block_ids:
        own[block_id * QUANTUM_BYTES :][: layout.block_bytes] = True
    assert (region.cpu()[~own] == 0xFF).all()


def test_classes_of_other_shape_share_the_region(device: Device) -> None:
    """Slabs go from class to class; each finds its own KV only."""
    cases = [Case(head_dim=24, windows=(None,)), Case(head_dim=80, windows=(5, None)), Case(dtype=torch.bfloat16)]
    slab_bytes = 5 * max(layout_of(case, device).block_bytes for case in cases)
    region = garbage(device, 6 * slab_bytes)
    pool = SlabPool(region.numel(), slab_bytes, QUANTUM_BYTES)
    models = [Model(device, case, region, layout_of(case, device, slab_bytes), []) for case in cases]
    for shift in range(3):  # who takes which slab
        live = []
        for model in models[shift:] + models[:shift]:
            shape = pool.register(model.layout.block_bytes)
            block_ids = pool.allocate(shape, 7)
            assert isinstance(block_ids, list)
            model.free_blocks = list(block_ids)
            streams = [model.stream(30), model.stream(45)]
            model.step([(stream, 29) for stream in streams])
            live.append((model, shape, block_ids, streams))
        for model, shape, block_ids, streams in live:
            model.step([(stream, 1) for stream in streams])
            pool.free(shape, block_ids)
