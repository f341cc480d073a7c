"""Duplicates across units, and the lists that leave them out."""
