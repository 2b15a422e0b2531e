"""Trackers of experiments: what metrics.jsonl holds is sent to them, now or later."""
