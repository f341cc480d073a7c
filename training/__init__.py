"""The trainer: it knows shards and prompts, not how they were made."""
