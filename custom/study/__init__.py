"""The controlled comparison: does self pre-training help on these images? `python -m scripts.compare` runs it."""
