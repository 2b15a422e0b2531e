"""Compression of models: quantized, pruned, or distilled into a student."""
