"""Synthetic patients: deterministic from a seed and an index, so that every experiment runs without a download."""
