package main

import (
	"encoding/binary"
	"errors"
)

// The shapes and contents of a thread's eight tiles, and what instructions do with them, as Intel's manual says (volume 2, and chapter 18 of volume 1).

const (
	tileCount = 8
	tileRows  = 16
	rowBytes  = 64
)

type tile struct {
	rows, width int // width is in bytes
	data        [tileRows][rowBytes]byte
}

type tiles [tileCount]tile

// machine is what instructions need of a thread: its general registers by number, and its memory.
type machine struct {
	register    func(number byte) uint64
	read, write func(at uint64, data []byte) error
}

// The errors are the processor's exceptions.
var (
	errInvalid    = errors.New("invalid opcode")
	errProtection = errors.New("general protection")
)

type operation int

const (
	configure operation = iota
	release
	zero
	load
	store
	dot
)

// instruction is one of those on tiles.
type instruction struct {
	operation
	size             int  // bytes
	first            byte // tile
	second, third    byte // of dot: tiles of rows and of columns
	signed           [2]bool
	base, index      byte // registers of an address
	scale            byte // shift of the index
	opcode, modrm, p byte
}

// decode reads the instruction that code begins with: those that internal/asmgen writes, in the address forms that it uses.
func decode(code []byte) (in instruction, ok bool) {
	if len(code) < 5 || code[0] != 0xC4 || code[1]&0x9F != 0x82 || code[2]&0x84 != 0 {
		return in, false // VEX of three bytes, map 0F38, tile registers below 8, W and L of 0
	}
	rex := ^code[1] >> 5
	in = instruction{p: code[2] & 3, opcode: code[3], modrm: code[4], third: ^code[2] >> 3 & 15, size: 5}
	in.first, in.second = in.modrm>>3&7, in.modrm&7
	register := in.modrm>>6 == 3
	switch {
	case in.opcode == 0x5E && register:
		in.operation, in.signed = dot, [2]bool{in.p >= 2, in.p&1 != 0}
		return in, in.third < tileCount
	case in.third != 0:
		return in, false
	case in.opcode == 0x49 && register && in.p == 0 && in.modrm == 0xC0:
		in.operation = release
	case in.opcode == 0x49 && register && in.p == 3 && in.second == 0:
		in.operation = zero
	case in.opcode == 0x49 && in.p == 0 && in.modrm>>6 == 0 && in.first == 0 && in.second != 4 && in.second != 5:
		in.operation, in.base = configure, in.second|rex&1<<3
	case in.opcode == 0x4B && in.p >= 2 && in.modrm>>6 == 0 && in.second == 4 && len(code) >= 6 && code[5]&7 != 5:
		in.operation, in.size = load, 6
		if in.p == 2 {
			in.operation = store
		}
		in.base, in.index, in.scale = code[5]&7|rex&1<<3, code[5]>>3&7|rex>>1&1<<3, code[5]>>6
		return in, in.index != 4
	default:
		return in, false
	}
	return in, true
}

// do carries out an instruction.
func (t *tiles) do(in instruction, m machine) error {
	switch in.operation {
	case configure:
		return t.configure(m.register(in.base), m)
	case release:
		*t = tiles{}
		return nil
	case dot:
		return t.dot(in)
	}
	x := &t[in.first]
	if x.rows == 0 {
		return errInvalid
	}
	if in.operation == zero {
		x.data = [tileRows][rowBytes]byte{}
		return nil
	}
	if in.operation == load {
		x.data = [tileRows][rowBytes]byte{}
	}
	for r := range x.rows {
		at, row := m.register(in.base)+uint64(r)*(m.register(in.index)<<in.scale), x.data[r][:x.width]
		move := m.read
		if in.operation == store {
			move = m.write
		}
		if err := move(at, row); err != nil {
			return err
		}
	}
	return nil
}

// configure takes shapes from memory, and empties all tiles.
func (t *tiles) configure(at uint64, m machine) error {
	var c [64]byte
	if err := m.read(at, c[:]); err != nil {
		return err
	}
	var out tiles
	for i := range out {
		out[i].width, out[i].rows = int(binary.LittleEndian.Uint16(c[16+2*i:])), int(c[48+i])
		if out[i].width > rowBytes || out[i].rows > tileRows || (out[i].width == 0) != (out[i].rows == 0) {
			return errProtection
		}
		clear(c[16+2*i:][:2])
		c[48+i] = 0
	}
	switch palette := c[0]; {
	case palette == 0:
		out = tiles{}
	case c != [64]byte{palette} || palette != 1: // what is left of it must be zero; it begins with the first row here
		return errProtection
	}
	*t = out
	return nil
}

// dot adds products of fours of bytes to 32-bit sums: of a row of the second tile, and a column of the third.
func (t *tiles) dot(in instruction) error {
	sums, x, w := &t[in.first], &t[in.second], &t[in.third]
	switch {
	case in.first == in.second || in.first == in.third || in.second == in.third, sums.rows == 0 || x.rows == 0 || w.rows == 0:
		return errInvalid
	case sums.width%4 != 0 || x.width%4 != 0 || sums.rows != x.rows || sums.width != w.width || x.width/4 != w.rows:
		return errInvalid
	}
	for r := range sums.rows {
		for c := 0; c < sums.width; c += 4 {
			total := binary.LittleEndian.Uint32(sums.data[r][c:])
			for k := range x.width {
				total += uint32(number(x.data[r][k], in.signed[0]) * number(w.data[k/4][c+k%4], in.signed[1]))
			}
			binary.LittleEndian.PutUint32(sums.data[r][c:], total)
		}
		clear(sums.data[r][sums.width:])
	}
	clear(sums.data[sums.rows:])
	return nil
}

func number(b byte, signed bool) int32 {
	if signed {
		return int32(int8(b))
	}
	return int32(b)
}
