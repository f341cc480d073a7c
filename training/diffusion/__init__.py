"""Noise schedules: the objective, and the sampler around schedulers of diffusers."""
