"""One loader a file: each runs in an environment of its own and imports nothing of ours but what measures it."""
