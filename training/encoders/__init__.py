"""Frozen networks that read prompts."""
