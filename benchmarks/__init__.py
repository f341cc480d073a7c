"""Speed and quality, measured: ``python -m benchmarks.NAME --help``. No tests: nothing fails on a figure."""
