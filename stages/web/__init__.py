"""Asking the open web for files: safely, fairly, politely, and within bounds."""
