import pytest
import torch
from torch import nn

from tests.training.fit.toy import ALL, LORA, ToyConfig
from training.config import Group, Lora, Optimiser
from training.fit.groups import choose, make_optimiser, trainables


@pytest.fixture
def toy() -> nn.Module:
    return ToyConfig().build()


def full(names: str, lr: float = 1e-3) -> Group:
    return Group(names=names, mode="full", lr=lr)


def test_the_first_group_that_matches_decides_and_the_rest_is_frozen(toy: nn.Module) -> None:
    groups = (full("blocks.0.*", 1e-4), Group(names="*.norm.*", mode="frozen"), full("blocks.*", 1e-3))
    trained = choose(toy, groups)
    assert [group.lr for group in trained] == [1e-4, 1e-3]
    assert {name.rpartition(".")[0] for name in trained[0].names} == {f"blocks.0.{n}" for n in ("norm", "up", "down")}
    assert {name.rpartition(".")[0] for name in trained[1].names} == {"blocks.1.up", "blocks.1.down"}
    assert set(trainables(toy)) == {*trained[0].names, *trained[1].names}


def test_what_trains_becomes_float32_and_what_is_frozen_stays(toy: nn.Module) -> None:
    choose(toy.bfloat16(), ALL)
    types = {name: parameter.dtype for name, parameter in toy.named_parameters()}
    assert types["encoder.0.weight"] == torch.bfloat16
    assert {types[name] for name in trainables(toy)} == {torch.float32}


def test_groups_have_learning_rates_of_their_own(toy: nn.Module) -> None:
    trained = choose(toy, (full("head.*", 1e-2), full("*", 1e-3)))
    optimiser = make_optimiser(toy, trained, Optimiser())
    sizes = [sum(parameter.numel() for parameter in group["params"]) for group in optimiser.param_groups]
    assert [group["lr"] for group in optimiser.param_groups] == [1e-2, 1e-3]
    assert sizes == [3 * 16 + 3, sum(parameter.numel() for parameter in toy.parameters()) - 51]


def test_low_rank_updates_train_alone_and_change_nothing_at_first(toy: nn.Module) -> None:
    block, x = toy.blocks[0].eval(), torch.randn(2, 16)
    before = block(x)
    (trained,) = choose(toy, LORA)
    assert trained.names[0] == "blocks.0.down.lora_A.default.weight"
    assert len(trained.names) == 2 * 2 * 2
    assert set(trainables(toy)) == set(trained.names)
    assert torch.equal(block(x), before)


def test_a_layer_may_be_named_with_what_holds_it(toy: nn.Module) -> None:
    lora = Lora(rank=2, alpha=1.0, targets=("1.up", "down"))
    (trained,) = choose(toy, [Group(names="blocks.*", mode="lora", lr=1e-3, lora=lora)])
    layers = {name.partition(".lora_")[0] for name in trained.names}
    assert layers == {"blocks.1.up", "blocks.0.down", "blocks.1.down"}


def test_groups_may_have_updates_of_several_ranks(toy: nn.Module) -> None:
    ranks = {"blocks.0.*": 2, "blocks.1.*": 3}
    groups = [
        Group(names=names, mode="lora", lr=1e-3, lora=Lora(rank=rank, alpha=1.0, targets=("up",)))
        for names, rank in ranks.items()
    ]
    choose(toy, [*groups, full("head.*")])
    shapes = {name: tuple(value.shape) for name, value in trainables(toy).items() if "lora_A" in name}
    assert shapes == {"blocks.0.up.lora_A.default.weight": (2, 16), "blocks.1.up.lora_A.default.weight": (3, 16)}
    assert toy.head.weight.requires_grad


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ((full("block.*"),), "no parameter is called 'block.*'; the closest names are blocks.*"),
        ((), "the recipe trains nothing: give it a group of mode full or lora"),
        ((Group(names="*", mode="frozen"),), "the recipe trains nothing"),
        ((full("*", 0.0),), "group '*' trains at lr=0.0: it needs one above 0"),
        ((full("*", float("inf")),), "group '*' trains at lr=inf"),
        ((Group(names="*", mode="lora", lr=1.0),), "group '*' has mode lora, but no lora="),
        ((Group(names="*", mode="full", lr=1.0, lora=LORA[0].lora),), "group '*' has a lora, but mode full"),
        (
            (Group(names="blocks.*", mode="lora", lr=1.0, lora=Lora(rank=2, alpha=1.0, targets=("to_q",))),),
            "group 'blocks.*' has no layer called to_q; its linear layers are called down, up",
        ),
    ],
)
def test_groups_that_say_too_little_are_refused(toy: nn.Module, groups: tuple[Group, ...], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        choose(toy, groups)
    assert message in str(caught.value)
