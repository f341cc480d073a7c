"""The HTML report of a run: what went in, what came out, what was lost and why, and the prompts as people read them."""
