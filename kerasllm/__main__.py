"""Lets `python -m kerasllm` do what the `kerasllm` command does."""

from kerasllm.cli.main import main

if __name__ == "__main__":
    main()
