"""What every reader does, by all kinds."""

import pytest
import torch

from manifests.prompt import ImageSegment, InterleavedPrompt, TextSegment
from training.encoders.blip2 import Blip2, Blip2Sizes
from training.encoders.idefics2 import Idefics2, Idefics2Sizes
from training.encoders.qwen_vl import QwenVl, QwenVlSizes
from training.families.base import Conditions
from training.stream.prompts.base import Prompt

SIDE = 16
QWEN = QwenVl(
    source=QwenVlSizes(width=32, layers=2, heads=2, vision_width=32, vision_layers=2, patch=4), side=SIDE, max_tokens=40
)
BLIP2 = Blip2(
    source=Blip2Sizes(
        width=32, layers=2, heads=2, vision_width=32, vision_layers=2, side=SIDE, patch=8, tokens_per_image=4
    ),
    max_tokens=40,
)
IDEFICS2 = Idefics2(
    source=Idefics2Sizes(
        width=32,
        layers=2,
        heads=2,
        key_heads=1,
        mlp_width=48,
        vision_width=32,
        vision_layers=2,
        vision_heads=2,
        vision_mlp_width=48,
        patch=8,
        most=SIDE,
    ),
    side=SIDE,
    max_tokens=40,
)
READERS = {"QwenVlNetwork": QWEN, "Blip2Network": BLIP2, "Idefics2Network": IDEFICS2}
PER_IMAGE = 4


@pytest.fixture(scope="module", params=READERS.values(), ids=READERS)
def reader(request):
    torch.manual_seed(0)
    built = request.param.build()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return built.requires_grad_(False)


def conditions(*rows, pictures=None):
    """Prompts of text, or numbers of pictures."""
    prompts = [
        InterleavedPrompt(
            tuple(
                TextSegment(part) if isinstance(part, str) else ImageSegment(f"subject{n}", "dog", "replace")
                for n, part in enumerate(row)
            )
        )
        for row in rows
    ]
    return Conditions(
        prompts=tuple(Prompt(interleaved=each, caption=each.caption) for each in prompts),
        references=tuple(tuple(picture(part) for part in row if not isinstance(part, str)) for row in rows),
        features={},
    )


def picture(seed, side=SIDE):
    return torch.randint(0, 256, (side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_states_masks_and_entities_go_together(reader):
    encoded = reader(conditions(("a ", 1, " b"), (), ("words",)))
    assert encoded.tokens.shape == (*encoded.mask.shape, reader.width)
    assert encoded.mask.shape == encoded.entity.shape
    assert encoded.mask.sum(1).tolist()[1:] == [1, 6]
    assert (encoded.entity == 1).sum(1).tolist() == [PER_IMAGE, 0, 0]
    assert not encoded.is_cut.any()
    assert encoded.tokens.isfinite().all()


def test_a_prompt_is_read_alike_beside_any_others(reader):
    rows = [("a ", 1, " b"), (), ("words",), (2, " with ", 3)]
    whole = reader(conditions(*rows))
    for number, row in enumerate(rows):
        alone = reader(conditions(row))
        length = int(alone.mask.sum())
        assert whole.entity[number, :length].tolist() == alone.entity[0].tolist()
        # float32 sums of another order: padding adds zeros, and pictures go in other packs
        torch.testing.assert_close(whole.tokens[number, :length], alone.tokens[0], atol=2e-5, rtol=1e-4)


def test_states_depend_on_what_the_picture_shows(reader):
    one, other = reader(conditions(("a ", 1, " b"), ("a ", 2, " b"))).tokens
    before = int((reader(conditions(("a ", 1))).entity[0] == 0).nonzero().max()) - 1 - PER_IMAGE
    assert torch.allclose(one[:2], other[:2], atol=1e-5)
    assert not torch.allclose(one[before:], other[before:], atol=1e-3)


def test_states_depend_on_the_order_of_pictures(reader):
    one, other = reader(conditions((1, " and ", 2), (2, " and ", 1))).tokens
    assert not torch.allclose(one, other, atol=1e-3)


def test_a_frozen_reader_keeps_no_graph_and_one_that_trains_does(reader):
    assert not reader(conditions(("a", 1))).tokens.requires_grad
    reader.requires_grad_(True)
    try:
        assert reader(conditions(("a", 1))).tokens.requires_grad
    finally:
        reader.requires_grad_(False)


def test_it_never_drops_out(reader):
    assert not any(part.training for part in (*BLIP2.build().modules(), *reader.train().modules()))


def test_long_prompts_are_told_or_cut(reader):
    long = conditions(("x" * 100,), ("y",))
    with pytest.raises(ValueError, match=r".* has 101 tokens.*its reader takes 40: shorten it"):
        reader(long)
    encoded = reader(long, cut=True)
    assert encoded.is_cut.tolist() == [True, False]
    assert encoded.mask.sum(1).tolist() == [40, 2]


def test_pictures_that_were_cut_are_not_asked_for(reader):
    encoded = reader(conditions(("x" * 38, 1)), cut=True)
    assert not encoded.entity.any()


def test_more_or_fewer_pictures_than_places_are_told(reader):
    found = conditions(("a", 1))
    for references, count in (((), 0), ((picture(1), picture(2)), 2)):
        wrong = Conditions(prompts=found.prompts, references=(references,), features={})
        with pytest.raises(ValueError, match=f"the prompt 'a<subject1>' shows 1 images, but comes with {count}"):
            reader(wrong)


def test_a_missing_picture_is_told(reader):
    found = conditions(("a", 1))
    with pytest.raises(ValueError, match="image 0 of the prompt 'a<subject1>' has no pixels"):
        reader(Conditions(prompts=found.prompts, references=((None,),), features={}))


def test_a_picture_of_another_size_is_told(reader):
    found = conditions(("a", 1))
    with pytest.raises(
        ValueError, match=r"image 0 of the prompt 'a<subject1>' is \(20, 20, 3\), but its reader takes \(16, 16, 3\)"
    ):
        reader(Conditions(prompts=found.prompts, references=((picture(1, 20),),), features={}))


def test_every_parameter_gets_a_gradient(reader):
    reader.requires_grad_(True)
    try:
        reader(conditions(("a ", 1, " b", 2))).tokens.square().sum().backward()
        assert [name for name, p in reader.named_parameters() if p.grad is None or not p.grad.abs().sum()] == []
    finally:
        reader.zero_grad()
        reader.requires_grad_(False)


def test_text_alone_goes_through_every_block_too(reader):
    passed = []
    hooks = [block.register_forward_hook(lambda block, *_: passed.append(block)) for block in reader.network.blocks()]
    reader.requires_grad_(True)
    try:
        reader(conditions(("words",), ())).tokens.sum().backward()
        assert all(p.grad is not None for p in reader.parameters())
    finally:
        reader.zero_grad()
        reader.requires_grad_(False)
        for hook in hooks:
            hook.remove()
    assert set(passed) == set(reader.network.blocks())


def test_it_is_built_on_meta_of_the_same_sizes(reader):
    config = READERS[type(reader.network).__name__]
    with torch.device("meta"):
        empty = config.build(load=False)
    shapes = {name: p.shape for name, p in reader.named_parameters()}
    assert {name: p.shape for name, p in empty.named_parameters()} == shapes
    assert all(p.is_meta for p in empty.parameters())
