#!/bin/sh
# Installs Hugging Face's own JavaScript client of the Hub, which the tests of internal/hub/hubtest let speak with the Hub for tests, and prints the folder:
#
#   export MLXBUILD_ORACLE_NODE_HUB=$(scripts/oracle_hub_js.sh ~/.cache/mlxbuild-ci/hub-js)
#
# 12 MB. What is there already is kept. Needs npm; the tests need node 18 or newer.
set -eu

if [ $# -ne 1 ]; then
	echo "usage: oracle_hub_js.sh DIR" >&2
	exit 2
fi
version=2.17.5
mkdir -p "$1"
dir=$(cd "$1" && pwd)
if [ ! -f "$dir/$version/node_modules/@huggingface/hub/package.json" ]; then
	echo "installing @huggingface/hub $version" >&2
	rm -rf "$dir/$version" "$dir/new"
	mkdir "$dir/new"
	printf '{"private": true, "dependencies": {"@huggingface/hub": "%s"}}\n' "$version" >"$dir/new/package.json"
	(cd "$dir/new" && npm install --silent --no-audit --no-fund --ignore-scripts >&2)
	mv "$dir/new" "$dir/$version" # whole or not at all
fi
echo "$dir/$version"
