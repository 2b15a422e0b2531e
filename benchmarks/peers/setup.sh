#!/bin/sh
# Makes the environment of the libraries that kerasllm is measured against.
#   sh benchmarks/peers/setup.sh [FOLDER]      FOLDER is benchmarks/peers/.venv unless it is given
# Where pip finds only the CUDA build of torch this takes about 6 GB; the CPU build is enough.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-"$here/.venv"}

"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --upgrade pip
"$folder/bin/python" -m pip install --quiet -r "$here/requirements.txt"
"$folder/bin/python" -m pip list 2>/dev/null | grep -E "^(torch|transformers|accelerate|peft) "
