"""Subjects of one identity in different pictures."""
