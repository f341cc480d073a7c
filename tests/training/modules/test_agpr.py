"""EMMA's gated blocks: what they add, that they add nothing at first, and that conditions are put together freely."""

import pytest
import torch
from torch.nn import functional

from tests.training.modules.test_ella import SIZES, TEXT, TIMES, perturbed
from training.modules.agpr import Assembled, Branch, EmmaCondition, GatedBlock, assemble
from training.modules.ella import PAPER_ELLA, Ella

LATENTS, TIME = torch.randn(3, 5, 16), torch.randn(3, 16)
ALL = torch.ones(3)


def branch(seed: int, strength: float = 0.3) -> Branch:
    torch.manual_seed(seed)
    made = Branch(
        EmmaCondition(name="it", vector_dim=6, vector_tokens=2, local_dim=4, local_tokens=3, strength=strength), SIZES
    )
    return perturbed(made, seed) if strength else made


def at_work(seed: int, scale: torch.Tensor = ALL, strength: float = 0.3) -> Assembled:
    made = branch(seed, strength)
    generator = torch.Generator().manual_seed(seed)
    vectors, local = torch.randn(3, 6, generator=generator), torch.randn(3, 3, 4, generator=generator)
    return Assembled(made, made(vectors, local), scale)


def test_the_papers_have_63_78_million_parameters_beside_projections() -> None:
    with torch.device("meta"):
        made = Branch(EmmaCondition(name="object"), PAPER_ELLA)
    assert sum(p.numel() for p in made.blocks.parameters()) == 6 * (10_628_352 + 2 * (768 + 1) + 2)
    assert sum(p.numel() for p in made.vector.parameters()) == 1024 * 768 + 768
    assert sum(p.numel() for p in made.local.parameters()) == 1280 * 768 + 768


@pytest.mark.parametrize(
    ("condition", "tokens"),
    [
        (EmmaCondition(name="object"), 258),
        (EmmaCondition(name="style", vector_tokens=4, local_dim=None), 4),
        (EmmaCondition(name="face", network="adaface", vector_dim=512, vector_tokens=4, local_dim=None), 4),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_conditions_are_read_as_so_many_tokens(condition: EmmaCondition, tokens: int) -> None:
    with torch.device("meta"):
        made = Branch(condition, PAPER_ELLA)
        local = None if condition.local_dim is None else torch.zeros(2, 257, 1280)
        assert made(torch.zeros(2, condition.vector_dim), local).shape == (2, tokens, 768)
    assert condition.tokens == tokens


def test_a_gate_is_one_number_a_token_and_begins_at_the_strength() -> None:
    block = branch(0, strength=0.0).block(0)
    fresh = GatedBlock(SIZES, 0.25)
    torch.testing.assert_close(fresh.attention.gate(LATENTS, ALL), torch.full((3, 5, 1), 0.25))
    torch.testing.assert_close(fresh.feed_forward.gate(LATENTS, 2 * ALL), torch.full((3, 5, 1), 0.5))
    assert not block.attention.gate(LATENTS, ALL).any()


def test_latents_are_what_equations_3_to_6_say() -> None:
    work = at_work(1, torch.tensor([1.0, 0.5, 2.0]))
    block = work.branch.block(0)

    def gate(of: torch.nn.Module, latents: torch.Tensor) -> torch.Tensor:
        linear = latents @ of.gate.linear.weight.T + of.gate.linear.bias
        return work.scale[:, None, None] * linear * of.gate.strength

    with torch.no_grad():
        attention, feed = block.attention, block.feed_forward
        query, states = attention.ln_1(LATENTS, TIME), attention.ln_2(work.tokens, TIME)
        seen = torch.cat([query, states], 1)
        latents = LATENTS + gate(attention, LATENTS) * attention.attn(query, seen, seen)[0]
        hidden = functional.relu(feed.mlp[0](feed.ln_ff(latents, TIME))) ** 2
        latents = latents + gate(feed, latents) * feed.mlp[2](hidden)
        torch.testing.assert_close(assemble([work], 0, LATENTS, TIME), latents)


def test_at_first_the_connector_says_what_it_said_without_them() -> None:
    ella, works = perturbed(Ella(SIZES)), [at_work(seed, strength=0.0) for seed in (1, 2)]
    with torch.no_grad():
        plain = ella(TEXT, TIMES)
        found = ella(TEXT, TIMES, lambda *given: assemble(works, *given))
        other = ella(TEXT, TIMES, lambda *given: assemble([at_work(1, strength=0.01)], *given))
    assert (plain - found).abs().max() == 0
    assert (plain - other).abs().max() > 0


def test_a_scale_of_0_leaves_a_sample_as_if_the_branch_were_not_there() -> None:
    ella = perturbed(Ella(SIZES))
    some = at_work(1, torch.tensor([1.0, 0.0, 1.0]))
    with torch.no_grad():
        plain, found = ella(TEXT, TIMES), ella(TEXT, TIMES, lambda *given: assemble([some], *given))
    assert torch.equal(plain[1], found[1])
    assert not torch.allclose(plain[0], found[0])


def test_conditions_commute() -> None:
    ella, (first, second, third) = perturbed(Ella(SIZES)), (at_work(seed) for seed in (1, 2, 3))
    with torch.no_grad():
        found = [
            ella(TEXT, TIMES, lambda *given, works=works: assemble(works, *given))
            for works in ([first, second], [second, first], [first, second, third], [third, first, second], [first])
        ]
    assert torch.equal(found[0], found[1])
    torch.testing.assert_close(found[2], found[3])
    assert not torch.allclose(found[0], found[2]) and not torch.allclose(found[0], found[4])


def test_all_of_them_read_the_same_latents() -> None:
    """Equation 7 adds what each would add alone; so does 8, after all of 7."""
    works = [at_work(seed) for seed in (1, 2)]
    blocks = [work.branch.block(0) for work in works]
    with torch.no_grad():
        latents = LATENTS + sum(
            block.attention(LATENTS, work.tokens, TIME, ALL) for block, work in zip(blocks, works, strict=True)
        )
        wanted = latents + sum(block.feed_forward(latents, TIME, ALL) for block in blocks)
        torch.testing.assert_close(assemble(works, 0, LATENTS, TIME), wanted)


def test_at_strength_0_only_strengths_learn_in_the_first_step() -> None:
    work = at_work(1, strength=0.0)
    target = torch.randn(LATENTS.shape)
    functional.mse_loss(assemble([work], 0, LATENTS, TIME), target).backward()
    block = work.branch.block(0)
    moved = {name for name, p in block.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert moved == {"attention.gate.strength", "feed_forward.gate.strength"}


def test_names_that_are_no_words_and_scales_below_0_are_told() -> None:
    with pytest.raises(ValueError, match="the scale of style must be a number from 0, got -1"):
        EmmaCondition(name="style", scale=-1.0)
    with pytest.raises(ValueError, match=r"must be a word of letters, digits and _, got 'a\.b'"):
        EmmaCondition(name="a.b")
