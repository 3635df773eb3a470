package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

// The test binary is also the program that is traced.
func TestMain(m *testing.M) {
	if os.Getenv("EMULATE_TEST_CHILD") == "" {
		os.Exit(m.Run())
	}
	var threads sync.WaitGroup
	for range 8 {
		threads.Add(1)
		go func() {
			defer threads.Done()
			runtime.LockOSThread()
		}()
	}
	threads.Wait()
	os.Exit(len(os.Getenv("MLXBUILD_TEST_EMULATED_TILES")) + 6)
}

func TestRun(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "EMULATE_TEST_CHILD=1", "MLXBUILD_TEST_EMULATED_TILES=1")
	code, err := run(cmd)
	if err != nil && (runtime.GOOS+"/"+runtime.GOARCH != "linux/amd64" || errors.Is(err, fs.ErrPermission)) {
		oracle.Missing(t, err.Error())
	}
	if code != 7 || err != nil {
		t.Errorf("exit code %d, %v", code, err)
	}
}

// TestDecode has the bytes that GNU as makes.
func TestDecode(t *testing.T) {
	for text, want := range map[string]string{
		"c4 e2 78 49 07":    "ldtilecfg [rdi]",
		"c4 c2 78 49 01":    "ldtilecfg [r9]",
		"c4 e2 78 49 c0":    "tilerelease",
		"c4 e2 7b 49 d8":    "tilezero tmm3",
		"c4 e2 7b 4b 24 0e": "tileloadd tmm4, [rsi+rcx*1]",
		"c4 82 7b 4b 14 ea": "tileloadd tmm2, [r10+r13*8]",
		"c4 c2 7a 4b 04 08": "tilestored [r8+rcx*1], tmm0",
		"c4 e2 4b 5e c4":    "tdpbssd tmm0, tmm4, tmm6",
		"c4 e2 6a 5e c3":    "tdpbsud tmm0, tmm3, tmm2",
		"c4 e2 69 5e cc":    "tdpbusd tmm1, tmm4, tmm2",
		"c4 e2 68 5e cc":    "tdpbuud tmm1, tmm4, tmm2",
		"c4 e2 4a 5c c4":    "", // tdpbf16ps tmm0, tmm4, tmm6
		"c4 e2 79 49 07":    "", // sttilecfg [rdi]
		"c5 f8 77 90 90 90": "", // vzeroupper
		"0f 0b 90 90 90 90": "", // ud2
	} {
		code := unhex(t, text)
		in, ok := decode(append(code, 0x90, 0x90)[:max(6, len(code))])
		if got := in.text(); ok != (want != "") || ok && (got != want || in.size != len(code)) {
			t.Errorf("%s is %q of %d bytes, not %q", text, got, in.size, want)
		}
	}
}

func unhex(t *testing.T, text string) (code []byte) {
	t.Helper()
	for _, s := range strings.Fields(text) {
		var b byte
		if _, err := fmt.Sscanf(s, "%02x", &b); err != nil {
			t.Fatal(err)
		}
		code = append(code, b)
	}
	return code
}

// text is the instruction in Intel's form.
func (in instruction) text() string {
	registers := strings.Fields("rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15")
	address := fmt.Sprintf("[%s+%s*%d]", registers[in.base], registers[in.index], 1<<in.scale)
	letter := map[bool]string{true: "s", false: "u"}
	switch in.operation {
	case configure:
		return fmt.Sprintf("ldtilecfg [%s]", registers[in.base])
	case release:
		return "tilerelease"
	case zero:
		return fmt.Sprintf("tilezero tmm%d", in.first)
	case load:
		return fmt.Sprintf("tileloadd tmm%d, %s", in.first, address)
	case store:
		return fmt.Sprintf("tilestored %s, tmm%d", address, in.first)
	}
	return fmt.Sprintf("tdpb%s%sd tmm%d, tmm%d, tmm%d", letter[in.signed[0]], letter[in.signed[1]], in.first, in.second, in.third)
}

// memory is a machine whose registers are rax and rcx: address 64 and stride 80.
func memory(data []byte) machine {
	return machine{
		register: func(number byte) uint64 { return []uint64{64, 80}[number] },
		read:     func(at uint64, b []byte) error { copy(b, data[at:]); return nil },
		write:    func(at uint64, b []byte) error { copy(data[at:], b); return nil },
	}
}

// shapes configures tile i as rows and bytes [2]int.
func shapes(all ...[2]int) []byte {
	c := make([]byte, 128)
	c[64] = 1
	for i, s := range all {
		c[64+48+i] = byte(s[0])
		binary.LittleEndian.PutUint16(c[64+16+2*i:], uint16(s[1]))
	}
	return c
}

func TestProducts(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		rows, columns, fours := 1+r.IntN(16), 1+r.IntN(16), 1+r.IntN(16)
		var its tiles
		if err := its.do(instruction{operation: configure}, memory(shapes([2]int{rows, 4 * columns}, [2]int{rows, 4 * fours}, [2]int{fours, 4 * columns}))); err != nil {
			t.Fatal(err)
		}
		data := make([]byte, 64+16*80)
		fill := func(tile byte) []byte {
			for i := range data {
				data[i] = byte(r.Uint32())
			}
			if err := its.do(instruction{operation: load, first: tile, index: 1}, memory(data)); err != nil {
				t.Fatal(err)
			}
			return bytes.Clone(data[64:])
		}
		sums, x, w := fill(0), fill(1), fill(2)
		in := instruction{operation: dot, second: 1, third: 2, signed: [2]bool{r.IntN(2) == 0, r.IntN(2) == 0}}
		if err := its.do(in, machine{}); err != nil {
			t.Fatal(err)
		}
		clear(data)
		if err := its.do(instruction{operation: store, index: 1}, memory(data)); err != nil {
			t.Fatal(err)
		}
		value := func(b byte, signed bool) int64 {
			if signed && b >= 128 {
				return int64(b) - 256
			}
			return int64(b)
		}
		for i := range rows {
			for j := range columns {
				want := int64(binary.LittleEndian.Uint32(sums[80*i+4*j:]))
				for k := range 4 * fours {
					want += value(x[80*i+k], in.signed[0]) * value(w[80*(k/4)+4*j+k%4], in.signed[1])
				}
				if got := binary.LittleEndian.Uint32(data[64+80*i+4*j:]); got != uint32(want) {
					t.Fatalf("%d x %d x %d, signed %v: sum %d, %d is %d, not %d", rows, columns, 4*fours, in.signed, i, j, got, uint32(want))
				}
			}
		}
		if out := data[64+4*columns : 64+80]; !bytes.Equal(out, make([]byte, len(out))) {
			t.Fatalf("%d columns: more were stored", columns)
		}
	}
}

func TestRefused(t *testing.T) {
	var its tiles
	full := [2]int{16, 64}
	for name, c := range map[string][]byte{"17 rows": shapes([2]int{17, 64}), "68 bytes": shapes([2]int{16, 68}), "no rows": shapes([2]int{0, 64}), "palette 2": append(make([]byte, 64), 2)} {
		if err := its.do(instruction{operation: configure}, memory(append(c, make([]byte, 64)...))); !errors.Is(err, errProtection) {
			t.Errorf("%s: %v", name, err)
		}
	}
	dots := instruction{operation: dot, second: 1, third: 2}
	for name, c := range map[string]struct {
		shapes []byte
		in     instruction
	}{
		"no shapes":    {make([]byte, 128), dots},
		"same tile":    {shapes(full, full, full), instruction{operation: dot, second: 1, third: 1}},
		"other rows":   {shapes(full, [2]int{15, 64}, full), dots},
		"other length": {shapes(full, full, [2]int{15, 64}), dots},
		"other width":  {shapes(full, full, [2]int{16, 60}), dots},
		"no tile":      {shapes(full), instruction{operation: zero, first: 1}},
	} {
		if err := its.do(instruction{operation: configure}, memory(c.shapes)); err != nil {
			t.Fatal(err)
		}
		if err := its.do(c.in, machine{}); !errors.Is(err, errInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
