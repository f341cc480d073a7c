"""Contracts: everything that crosses a boundary is declared here and nowhere else."""
