"""Conversations: their formats in files, chat templates, and tokens with a loss mask."""
