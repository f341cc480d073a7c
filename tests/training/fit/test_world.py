import pytest
import torch
import torch.distributed as dist

from training.fit.world import device_of_rank, joined

CPU = torch.device("cpu")


def test_one_process_is_a_world_of_its_own_for_a_while() -> None:
    with joined(CPU) as world:
        assert (world.rank, world.size, world.group.gather("a")) == (0, 1, ["a"])
    assert not dist.is_initialized()


def test_a_group_that_was_there_before_is_left_as_it_is() -> None:
    with joined(CPU):
        with pytest.raises(KeyError), joined(CPU):
            raise KeyError
        assert dist.is_initialized()
    assert not dist.is_initialized()


def test_a_device_may_be_named() -> None:
    assert device_of_rank("cpu") == CPU
    assert device_of_rank("meta") == torch.device("meta")
    with pytest.raises(ValueError, match="there is no device 'nowhere' that PyTorch can use here; there is cpu"):
        device_of_rank("nowhere")


def test_a_gpu_without_a_number_is_the_ranks_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch's own ``set_device`` wants a number."""
    monkeypatch.setattr(torch, "empty", lambda *shape, device: device)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert device_of_rank("cuda") == torch.device("cuda", 3)
    assert device_of_rank("cuda:1") == torch.device("cuda", 1)
