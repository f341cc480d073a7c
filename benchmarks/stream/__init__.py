"""What streaming costs: the loaders of others beside ours, on the same shards with the same decoders."""
