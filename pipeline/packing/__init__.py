"""Many small shards to few large ones."""
