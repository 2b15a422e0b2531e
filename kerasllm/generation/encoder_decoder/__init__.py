"""Decoding with encoder-decoders: sources in, targets out."""
