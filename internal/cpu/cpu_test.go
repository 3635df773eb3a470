package cpu

import (
	"slices"
	"strings"
	"testing"
)

func TestForced(t *testing.T) {
	for _, l := range Levels() {
		t.Setenv(Variable, string(l))
		if got, err := Forced(); got != l || err != nil {
			t.Errorf("%s=%s: %q, %v", Variable, l, got, err)
		}
		if Best() != l || !Has(Generic) || !Has(l) {
			t.Errorf("%s=%s: best is %s", Variable, l, Best())
		}
	}
	t.Setenv(Variable, "")
	all := Levels()
	if Best() != all[len(all)-1] {
		t.Errorf("best of %v is %s", all, Best())
	}
}

func TestForcedInVain(t *testing.T) {
	absent := NEON
	if slices.Contains(Levels(), NEON) {
		absent = AVX2
	}
	for level, want := range map[string]string{"sse": "no level", "avx2 ": `MLXBUILD_CPU="avx2 " is no level`, string(absent): "cannot be used on this processor, which has generic"} {
		t.Setenv(Variable, level)
		if _, err := Forced(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s=%s: %v, want %q", Variable, level, err, want)
		}
		if all := Levels(); Best() != all[len(all)-1] {
			t.Errorf("%s=%s is followed", Variable, level)
		}
	}
}
