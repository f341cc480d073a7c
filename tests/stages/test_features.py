import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors import safe_open
from safetensors.torch import load

from manifests.record import Feature, ModelUse, Picture
from stages.features import FeatureError, Storage, content_hash, pack, unpack, values_of

MODEL = ModelUse(name="owner/clip", revision="a1")
TORCH: dict[Storage, torch.dtype] = {
    "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16
}  # fmt: skip
storages = st.sampled_from(sorted(TORCH))
values = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=0, max_dims=3, max_side=5),
    elements=st.floats(-60_000, 60_000, width=32),
)


def packed(array: np.ndarray, storage: Storage = "float32", model: ModelUse = MODEL) -> Feature:
    return pack("caption_clip_states", content_hash("a dog"), model, array, storage)


@given(values, storages)
def test_what_is_read_is_what_torch_stores_and_what_safetensors_reads(array: np.ndarray, storage: Storage) -> None:
    feature = packed(array, storage)
    expected = torch.from_numpy(array.copy()).to(TORCH[storage])
    theirs = load(feature.data)["value"]
    assert theirs.dtype == TORCH[storage] and torch.equal(theirs, expected)
    ours = values_of(feature)
    assert ours.shape == feature.shape == array.shape
    assert np.array_equal(ours.astype(np.float32), expected.float().numpy())


@given(values, storages)
def test_a_member_says_itself_what_it_is(array: np.ndarray, storage: Storage) -> None:
    feature = packed(array, storage)
    assert unpack(feature.name, feature.data) == feature
    assert packed(array, storage).data == feature.data


def test_other_libraries_read_what_it_is_of(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "f.safetensors").write_bytes(packed(np.ones(3, np.float32)).data)
    with safe_open(tmp_path / "f.safetensors", "np") as file:
        assert content_hash("a dog") in file.metadata()["feature"]
        assert file.keys() == ["value"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, 70_000])
def test_what_is_no_finite_number_in_storage_is_not_stored(bad: float) -> None:
    with pytest.raises(FeatureError, match="are no finite numbers as float16"):
        packed(np.array([1, bad], np.float32), "float16")


@given(st.binary(max_size=60) | st.integers(0, 200).map(lambda n: packed(np.ones(9, np.float32)).data[:n]))
def test_damaged_files_are_refused(data: bytes) -> None:
    with pytest.raises(FeatureError, match="x: no safetensors file of a feature"):
        unpack("x", data)
    feature = dataclasses.replace(packed(np.ones(9, np.float32)), data=data)
    with pytest.raises(FeatureError):
        values_of(feature)


def test_content_is_the_text_or_the_picture_s_file() -> None:
    assert content_hash("é") == content_hash(Picture(format="png", width=1, height=1, data="é".encode()))
