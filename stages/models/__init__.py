"""Frozen models behind small protocols. All but ``weights`` import torch: stages import them in ``load`` only."""
