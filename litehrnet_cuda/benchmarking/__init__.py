"""Networks timed in turns, ours and others, for `litehrnet benchmark` and the project's own benchmarks."""
