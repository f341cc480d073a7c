"""A trained family for the world: safetensors in the layouts of diffusers and peft, with a model card."""
