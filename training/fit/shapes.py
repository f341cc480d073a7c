"""A forward and a backward pass of shapes alone: floats without values, and how many bytes of them are held at once."""

import weakref
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

_IN_FLOAT32 = frozenset(
    {
        functional.layer_norm,
        functional.group_norm,
        functional.softmax,
        functional.log_softmax,
        functional.mse_loss,
        functional.cross_entropy,
        functional.normalize,
        torch.softmax,
        torch.rsqrt,
        torch.pow,
        torch.exp,
        torch.log,
        torch.sum,
        Tensor.softmax,
        Tensor.pow,
        Tensor.exp,
        Tensor.sum,
    }
)
"""What families call of the operations that autocast on CUDA takes to float32, and on the CPU leaves as they are.

Source: PyTorch's documentation of ``torch.amp``, "CUDA Ops that can autocast to float32".
"""


class Shapes(AbstractContextManager["Shapes"]):
    """While it is open, tensors of floats have shapes and no values, and those of whole numbers are what they are.

    So a model of any size runs as far as Python goes: lengths and places of tokens are known, and not a byte of
    activations is made.

    Attributes:
        peak: The most bytes of floats that were held at once, those made before :meth:`count` aside.
    """

    def __init__(self) -> None:
        self.peak = 0
        self._fake = FakeTensorMode(allow_non_fake_inputs=True)
        self._split: _Split | None = None

    def __enter__(self) -> Self:
        self._fake.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._split is not None:
            self._split.__exit__(kind, error, trace)
            self.peak = self._split.peak
        self._fake.__exit__(kind, error, trace)

    def adopt(self, family: nn.Module, dtype: torch.dtype | None = None) -> None:
        """Give a family of the meta device parameters and buffers that can be computed with, shared where they were.

        Args:
            family: As it was outlined; its parameters that train get gradients, as after a part of a batch.
            dtype: Of its parameters; ``None``: as outlined.
        """
        made: dict[int, Tensor] = {}
        for part in family.modules():
            for held in (part._parameters, part._buffers):
                for name, tensor in held.items():
                    if tensor is not None:
                        made.setdefault(id(tensor), _without_values(tensor, dtype))
                        held[name] = made[id(tensor)]  # type: ignore[assignment]

    def count(self, family: nn.Module) -> None:
        """From now on count what is held beside a family's parameters, their gradients and its buffers."""
        parameters = list(family.parameters())
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        self._split = _Split((*parameters, *gradients, *family.buffers()))
        self._split.__enter__()


def _without_values(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    if not isinstance(tensor, nn.Parameter):
        return torch.empty(tensor.shape, dtype=tensor.dtype)
    made = nn.Parameter(torch.empty(tensor.shape, dtype=dtype or tensor.dtype), tensor.requires_grad)
    made.grad = torch.empty_like(made) if tensor.requires_grad else None
    return made


class _Split(TorchDispatchMode):
    """Parts operations: those on whole numbers alone are done, all others only change shapes; counts their memory."""

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()
        self.live, self.peak = 0, 0
        self._known = {tensor.untyped_storage()._cdata for tensor in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do an operation, or let it change shapes."""
        kwargs = kwargs or {}
        given = _tensors((args, kwargs))
        if given and not _has_floats(given):
            result = _done(func, args, kwargs)
            if not _has_floats(_tensors(result)):
                return result
        if func is torch.ops.aten.index.Tensor:
            args = args[0], _places(args[1])
        result = func(*args, **kwargs)
        made = _tensors(result)
        if not given and made and not _has_floats(made, fakes=False):
            return _done(func, args, kwargs)
        for tensor in made:
            self._note(tensor)
        return result

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known or not isinstance(tensor, FakeTensor):
            return
        self._known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def _has_floats(tensors: Sequence[Tensor], fakes: bool = True) -> bool:
    """Whether any has floats, or, with ``fakes``, has no values."""
    return any(tensor.is_floating_point() or (fakes and isinstance(tensor, FakeTensor)) for tensor in tensors)


def _done(func: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    with unset_fake_temporarily():
        return func(*args, **kwargs)


def _places(indices: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Indices with masks, which would make a shape that is not known, as the places that they mark."""
    parted: list[Tensor | None] = []
    for index in indices:
        if index is None or index.dtype != torch.bool or isinstance(index, FakeTensor):
            parted.append(index)
        else:
            with unset_fake_temporarily():
                parted += index.nonzero(as_tuple=True)
    return parted


class CudaAutocast(TorchFunctionMode):
    """Autocast of the CPU takes to float32 what that of CUDA does."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call an operation."""
        kwargs = kwargs or {}
        if func in _IN_FLOAT32 and torch.is_autocast_enabled("cpu"):
            args, kwargs = tree_map_only(Tensor, _as_float32, (args, kwargs))
        return func(*args, **kwargs)


def _as_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
