#!/bin/sh
# Runs mlxbuild in namespaces of its own, on another root, as on another machine: no network, another host name, process 1, nothing of this machine's /proc, /dev and /etc unless the root has it.
#
#   container.sh bare|system WORK PROGRAM ARGUMENT...
#
# WORK holds the program, the recipe and the model, and keeps what is made. A bare root has nothing but WORK and an empty /tmp; the system's root is that of this machine without what is mounted below it.
set -eu
root=$1 work=$2
shift 2
map=
if [ "$(id -u)" != 0 ]; then map=--map-root-user; fi
exec unshare $map --mount --pid --uts --ipc --net --fork sh -euc '
	kind=$1 work=$2 root=$2.root
	shift 2
	mount --make-rprivate /
	hostname elsewhere
	mkdir -p "$root"
	case $kind in
	bare) mount -t tmpfs tmpfs "$root" ;;
	system) mount --bind / "$root" && mount -t tmpfs tmpfs "$root/tmp" ;;
	esac
	mkdir -p "$root/tmp/scene"
	mount --bind "$work" "$root/tmp/scene"
	cd /
	exec chroot "$root" "$@"
' sh "$root" "$work" "$@"
