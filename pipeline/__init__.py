"""The data engine: the only package that knows Ray (with training/launch.py)."""
