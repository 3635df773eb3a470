package main

import "fmt"

// The kernel of internal/sha: SHA-256 of sixteen streams at once, a 32-bit lane of every register for each. FIPS 180-4 has the rounds and their constants.

var shaConstants = []uint32{
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
}

func shaAVX512() *file {
	f := newFile("internal/sha", "blocks_avx512", "amd64", "")
	a := f.fn("blocksAVX512", "hashes blocks of 64 bytes of sixteen streams, the first of sixteen slices, into eight rows of sixteen words.", "state *uint32, streams *[]byte, blocks int")
	a.arg("state", "DI")
	a.arg("streams", "SI")
	a.arg("blocks", "CX")
	a.op("XORQ DX, DX")
	a.op("LEAQ %s, R8", f.table32("shaConstants", shaConstants...))
	var swap []byte
	for i := range 64 {
		swap = append(swap, byte(i^3)&15)
	}
	swapped := f.tableBytes("shaSwap", swap...)
	z := func(i int) string { return fmt.Sprintf("Z%d", i) }
	s := shaRounds{fn: a}
	for i := range 8 {
		s.state[i] = z(16 + i)
		s.tmp[i] = z(24 + i)
		a.op("VMOVDQU32 %d(DI), %s", 64*i, s.state[i])
	}
	a.countdown("CX", func() {
		a.note("rows of streams become rows of words")
		for i := range 16 {
			s.words[i] = z(i)
			a.op("MOVQ %d(SI), AX", 24*i)
			a.op("VMOVDQU32 (AX)(DX*1), %s", z(i))
		}
		s.transpose()
		for _, w := range s.words {
			a.op("VPSHUFB %s, %s, %s", swapped, w, w)
		}
		for t := range 64 {
			s.round(t)
		}
		for i, r := range s.state { // after 64 rounds each is where it was
			a.op("VPADDD %d(DI), %s, %s", 64*i, r, r)
			a.op("VMOVDQU32 %s, %d(DI)", r, 64*i)
		}
		a.op("ADDQ $64, DX")
	})
	a.ret()
	return f
}

// shaRounds names registers: the last sixteen words of the schedule, a to h, and what is free.
type shaRounds struct {
	*fn
	words      [16]string
	state, tmp [8]string
}

// transpose turns words[stream] into words[number]: dwords, then pairs of them, within quarters of registers, and then the quarters.
func (s *shaRounds) transpose() {
	free := s.tmp[0]
	// mix puts low and high halves of two registers into them, and swaps names instead of moving.
	mix := func(low, high string, i, j int) {
		a, b := s.words[i], s.words[j]
		s.op("%s %s, %s, %s", low, b, a, free)
		s.op("%s %s, %s, %s", high, b, a, b)
		s.words[i], s.words[j], free = free, b, a
	}
	for q := 0; q < 16; q += 4 {
		s.note("streams %d to %d", q, q+3)
		mix("VPUNPCKLDQ", "VPUNPCKHDQ", q, q+1)
		mix("VPUNPCKLDQ", "VPUNPCKHDQ", q+2, q+3)
		mix("VPUNPCKLQDQ", "VPUNPCKHQDQ", q, q+2)
		mix("VPUNPCKLQDQ", "VPUNPCKHQDQ", q+1, q+3)
		s.words[q+1], s.words[q+2] = s.words[q+2], s.words[q+1]
	}
	even, odd := "VSHUFI32X4 $0x88,", "VSHUFI32X4 $0xDD,"
	for j := range 4 {
		s.note("words %d, %d, %d, %d", j, j+4, j+8, j+12)
		mix(even, odd, j, j+4)
		mix(even, odd, j+8, j+12)
		mix(even, odd, j, j+8)
		mix(even, odd, j+4, j+12)
	}
	s.tmp[0] = free
}

// round t, and the schedule's word for round t+16.
func (s *shaRounds) round(t int) {
	if t%16 == 0 {
		s.note("rounds %d to %d", t, t+15)
	}
	a, b, c, d, e, f, g, h := s.state[0], s.state[1], s.state[2], s.state[3], s.state[4], s.state[5], s.state[6], s.state[7]
	x, y, v := s.tmp[0], s.tmp[1], s.tmp[2]
	w := s.words[t%16]
	s.op("VPADDD.BCST %d(R8), %s, %s", 4*t, w, v)
	s.op("VPADDD %s, %s, %s", v, h, h)
	s.op("VMOVDQA32 %s, %s", e, v)
	s.op("VPTERNLOGD $0xCA, %s, %s, %s", g, f, v)
	s.op("VPADDD %s, %s, %s", v, h, h)
	s.sigma("VPRORD", e, 6, 11, 25, x, y, v)
	s.op("VPADDD %s, %s, %s", v, h, h)
	s.op("VPADDD %s, %s, %s", h, d, d)
	s.op("VMOVDQA32 %s, %s", a, v)
	s.op("VPTERNLOGD $0xE8, %s, %s, %s", c, b, v)
	s.op("VPADDD %s, %s, %s", v, h, h)
	s.sigma("VPRORD", a, 2, 13, 22, x, y, v)
	s.op("VPADDD %s, %s, %s", v, h, h)
	s.state = [8]string{h, a, b, c, d, e, f, g}
	if t >= 48 {
		return
	}
	x, y, v = s.tmp[3], s.tmp[4], s.tmp[5]
	s.sigma("VPSRLD", s.words[(t+1)%16], 7, 18, 3, x, y, v)
	s.op("VPADDD %s, %s, %s", v, w, w)
	s.op("VPADDD %s, %s, %s", s.words[(t+9)%16], w, w)
	s.sigma("VPSRLD", s.words[(t+14)%16], 17, 19, 10, x, y, v)
	s.op("VPADDD %s, %s, %s", v, w, w)
}

// sigma is the exclusive or of two rotations of a register and of a third one, or of a shift.
func (s *shaRounds) sigma(third, of string, i, j, k int, x, y, dst string) {
	s.op("VPRORD $%d, %s, %s", i, of, x)
	s.op("VPRORD $%d, %s, %s", j, of, y)
	s.op("%s $%d, %s, %s", third, k, of, dst)
	s.op("VPTERNLOGD $0x96, %s, %s, %s", x, y, dst)
}
