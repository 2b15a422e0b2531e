"""Metrics that Keras lacks, and how results are shown."""
