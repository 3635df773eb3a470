package machine

import (
	"encoding/json"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

func TestThisMachineIsTheSameTwice(t *testing.T) {
	f := Read()
	t.Log(f)
	if g := Read(); f != g {
		t.Errorf("%+v, then %+v", f, g)
	}
	if f.Cores < 1 || f.Cores > runtime.NumCPU() || f.Arch != runtime.GOARCH || !strings.HasPrefix(f.OS, runtime.GOOS) {
		t.Errorf("%+v", f)
	}
	if runtime.GOOS == "linux" && (f.OS == "linux" || f.Memory == 0) {
		t.Errorf("%+v", f)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // which is about this program and not about the machine
	if g := Read(); f != g {
		t.Errorf("with another GOMAXPROCS %+v, then %+v", f, g)
	}
}

func TestStateIsOneOfItsWords(t *testing.T) {
	s := Now()
	t.Logf("%+v", s)
	for word, words := range map[string]string{s.Power: "ac battery", s.LowPower: "yes no", s.MemoryPressure: "normal some critical", s.Thermal: "nominal throttled"} {
		if word == "" || !strings.Contains(words+" unknown", word) {
			t.Errorf("%q is not one of %s", word, words)
		}
	}
	if s.Swapped < 0 {
		t.Errorf("%d bytes of swap in use", s.Swapped)
	}
}

// TestWatchSeesWork keeps a core busy until the system says that it was, so that it does not matter what else runs here.
func TestWatchSeesWork(t *testing.T) {
	start := CPUTime(os.Getpid())
	if start < 0 {
		oracle.Missing(t, "this system does not tell CPU times of processes")
	}
	w := StartWatch()
	own := time.Duration(0)
	for end := time.Now().Add(30 * time.Second); own < 300*time.Millisecond && time.Now().Before(end); {
		for range 1_000_000 { // work
		}
		own = CPUTime(os.Getpid()) - start
	}
	withOwn, without := w.Stop(own), w.Stop(0)
	t.Logf("own %v: %+v; as if it were others': %+v", own, withOwn, without)
	if withOwn.Seconds < 0.1 || withOwn.Seconds > 60 {
		t.Errorf("%v s", withOwn.Seconds)
	}
	if b, err := json.Marshal(withOwn); err != nil {
		t.Errorf("%s: %v", b, err)
	}
	if without.Other <= 0 {
		oracle.Missing(t, "this system does not tell what its CPUs do")
	}
	if busy := without.Other * without.Seconds; busy < 0.15 {
		t.Errorf("all CPUs were busy for %v s, this process for %v", busy, own)
	}
	if withOwn.Other < 0 || withOwn.Other > without.Other {
		t.Errorf("others kept %v cores busy, with this process %v", withOwn.Other, without.Other)
	}
	if l := w.Stop(-1); l.Other != -1 {
		t.Errorf("others kept %v cores busy, though nobody knows who was", l.Other)
	}
}

func TestTooShortToSay(t *testing.T) {
	w := StartWatch()
	if l := w.Stop(0); l.Seconds < 0.05 && (l.Other != -1 || l.Steal != -1) {
		t.Errorf("%+v", l)
	}
}

func TestClockMayBeSet(t *testing.T) {
	if at := StartWatch().began.String(); !strings.Contains(at, " m=") {
		t.Errorf("%s has no monotonic reading", at)
	}
}

func TestUnknownProcess(t *testing.T) {
	for _, pid := range []int{-1, 0, 1 << 30} {
		if got := CPUTime(pid); got != -1 {
			t.Errorf("process %d took %v", pid, got)
		}
	}
}
