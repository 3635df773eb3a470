//go:build !unix

package main

import "os"

const exeSuffix = ".exe"

func peakMemory(*os.ProcessState) int64 { return 0 }

func settle() {}
