#!/usr/bin/env bash
# Makes DIR a Python environment with the programs that tests compare mlxbuild with (oracle_requirements.txt), and prints the path of its python:
#
#   export MLXBUILD_ORACLE_PYTHON=$(scripts/oracle_env.sh ~/.cache/mlxbuild-ci/oracle)
#
# An environment that was made from the same requirements is used as it is. It takes 5.4 GB on Linux, most of it CUDA libraries that PyTorch's package asks
# for; only the CPU is used. PYTHON names the interpreter to start from (default python3; 3.11 or later).
set -euo pipefail

if [ $# -ne 1 ]; then
	echo "usage: oracle_env.sh DIR" >&2
	exit 2
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
requirements=$here/oracle_requirements.txt
mkdir -p "$1"
dir=$(cd "$1" && pwd)
base=$(command -v "${PYTHON:-python3}")
stamp=$("$base" --version && cat "$requirements")

if [ "$stamp" = "$(cat "$dir/made-from" 2>/dev/null)" ] && "$dir/bin/python" -c 'import mlx.core' 2>/dev/null; then
	echo "$dir/bin/python"
	exit
fi
if [ -n "$(ls -A "$dir")" ] && [ ! -e "$dir/made-by-oracle-env" ]; then
	echo "oracle_env.sh: $dir is not empty and was not made by this script" >&2
	exit 1
fi
echo "making the Python environment $dir" >&2
rm -rf "$dir"
mkdir -p "$dir"
touch "$dir/made-by-oracle-env"

# uv resolves and unpacks this in seconds where pip takes minutes.
uv=uv
if ! uv --version >/dev/null 2>&1; then
	"$base" -m pip install --quiet --root-user-action ignore --target "$dir/uv" uv==0.13.9 >&2
	uv=$dir/uv/bin/uv
fi
"$uv" venv --quiet --allow-existing --python "$base" "$dir" >&2
"$uv" pip install --quiet --python "$dir/bin/python" --requirement "$requirements" >&2
"$dir/bin/python" -c 'import gguf, jinja2, mlx.core, mlx_lm, sentencepiece, tokenizers, torch, transformers' >&2
printf '%s\n' "$stamp" >"$dir/made-from"
echo "$dir/bin/python"
