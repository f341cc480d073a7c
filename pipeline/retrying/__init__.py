"""Rejected rows tried again, and which attempt counts."""
