"""Whole networks, ours and other ways to run them; see benchmarks/README.md."""
