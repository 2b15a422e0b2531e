"""Experiment trackers: metrics.jsonl is sent to them, now or later."""
