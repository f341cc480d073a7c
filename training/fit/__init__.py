"""The training loop, and what it needs: checkpoints, sharding, moving averages, logs."""
