//go:build !linux

package main

// availableMemory is not asked for on this system: steps are limited by --jobs alone.
func availableMemory() int64 { return 0 }
