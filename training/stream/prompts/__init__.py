"""How an example becomes a prompt: one builder a family, pure over metadata, touching no pixel."""
