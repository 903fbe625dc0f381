"""What measures speed; each module is a command: python -m benchmarks.NAME --help."""
