"""The jobs as plain functions, one file each: what the command line and the notebooks call."""
