package builtin

import (
	"os"
	"os/exec"
	"regexp"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/oracle"
)

// TestNothingIsFused looks at the machine code: the compiler may make one instruction of x*y + z, which rounds once, on arm64 and from GOAMD64=v3 on. Then bits would depend on the machine.
func TestNothingIsFused(t *testing.T) {
	goTool, err := exec.LookPath("go")
	if err != nil {
		oracle.Missing(t, "there is no go command here")
	}
	fused := regexp.MustCompile(`.*\t(V?FN?M(ADD|SUB)[0-9A-Z]*)\t.*`)
	product := regexp.MustCompile(`\t(FMUL[SD]|MULS[SD])\t`)
	const module = "github.com/mlxbuild/mlxbuild/"
	for _, target := range [][]string{{"GOARCH=arm64"}, {"GOARCH=amd64", "GOAMD64=v3"}} {
		cmd := exec.Command(goTool, "build", "-gcflags=-S", module+"internal/quant", module+"internal/tensor", module+"internal/arch/llama", module+"backend/builtin")
		cmd.Env = append(os.Environ(), append(target, "GOOS=linux", "CGO_ENABLED=0")...)
		code, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", target, err, code)
		}
		if !product.Match(code) {
			t.Errorf("%v: no product was seen; does this test still read the compiler's output?", target)
		}
		if found := fused.Find(code); found != nil {
			t.Errorf("%v: %s", target, found)
		}
	}
}
