"""Conversations: their shapes in files, chat templates, and tokens with a loss mask."""
