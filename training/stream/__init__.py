"""Shards to training batches, in an order that is a pure function of seed, epoch and position."""
