"""What setup.cfg cannot say: the packages that are found, and one that lies elsewhere."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["kerasllm", "kerasllm.*"]), "kerasllm.recipes"])
