//go:build !linux

package convert

import "os"

func copyInKernel(*os.File, int64, *os.File, int64, int64) bool { return false }
