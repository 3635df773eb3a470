//go:build !linux

package cpu

// permitTiles says no: how other systems are asked for tiles has been tried on none of them.
func permitTiles() bool { return false }
