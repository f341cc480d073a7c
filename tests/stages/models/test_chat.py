"""Chat models: a tiny one with random weights."""

from pathlib import Path

import pytest
import torch

from stages.base import ModelRef
from stages.models.chat import Chat, load_chat
from tests.stages.models.tiny_clip import hf_folder, tokenizer

from transformers import LlamaConfig, LlamaForCausalLM  # isort: skip

TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}{% if add_generation_prompt %} answer{% endif %}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("chat")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49408, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        bos_token_id=49406, eos_token_id=49407, pad_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(path)
    words = tokenizer()
    words.chat_template = TEMPLATE
    words.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def chat(folder: Path) -> Chat:
    whole = load_chat(ModelRef(name=str(folder)), "cpu", "auto")
    return Chat(whole.model, whole.tokenizer, whole.device, max_new_tokens=12)


def test_a_reply_hangs_on_request_and_seed_alone(chat: Chat) -> None:
    reply = chat("Write a list", 1)
    torch.manual_seed(99)
    assert chat("Write a list", 1) == reply != chat("Write a list", 2)
    before = torch.random.get_rng_state()
    chat("Write a list", 3)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert reply.strip() and "list" not in reply and "<|" not in reply


def test_what_is_no_chat_model_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="model_type 'clip'"):
        load_chat(ModelRef(name=str(hf_folder(tmp_path))), "cpu", "auto")
    (folder / "chat_template.jinja").rename(folder / "gone.jinja")
    with pytest.raises(ValueError, match="has no chat template"):
        load_chat(ModelRef(name=str(folder)), "cpu", "auto")
    (folder / "gone.jinja").rename(folder / "chat_template.jinja")
    (folder / "model.safetensors").write_bytes(b"junk")
    with pytest.raises(ValueError, match="cannot load LlamaForCausalLM"):
        load_chat(ModelRef(name=str(folder)), "cpu", "auto")
    with pytest.raises(ValueError, match="no model 'none'"):
        load_chat(ModelRef(name="none"), "cpu", "auto")
