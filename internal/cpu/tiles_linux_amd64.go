package cpu

import "golang.org/x/sys/unix"

// permitTiles asks the kernel for tiles, for all threads of the process. It gives them to nobody unasked, because a thread that uses them has 8 KiB more to save; kernels before 5.16 know none, and refuse.
func permitTiles() bool {
	const request, tileData = 0x1023, 18 // ARCH_REQ_XCOMP_PERM, and the state's number
	_, _, errno := unix.RawSyscall(unix.SYS_ARCH_PRCTL, request, tileData, 0)
	return errno == 0
}
