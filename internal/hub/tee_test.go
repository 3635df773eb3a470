package hub

import (
	"bytes"
	"testing"

	"github.com/mlxbuild/mlxbuild/internal/hub/hubtest"
)

// teeBuffer keeps what it is given, and whether that was taken back.
type teeBuffer struct {
	bytes.Buffer
	lost bool
}

func (t *teeBuffer) Lost() { t.lost = true }

// TestTeeIsTold: who looks at bytes before they are proved is told when they were not the file's.
func TestTeeIsTold(t *testing.T) {
	data := content(300_000)
	for _, kind := range []hubtest.Kind{hubtest.Flip, hubtest.Zeros, hubtest.RangeShifted} {
		h := hubtest.New(t, hubtest.Options{LFSOver: 1000})
		r := h.Repo("models", "org/name")
		at := r.Commit("main", map[string][]byte{"model.safetensors": data})
		c := New(Settings{Endpoint: h.Endpoint()}, Options{})
		t.Cleanup(c.Close)
		h.Fault(hubtest.Fault{Kind: kind, Route: "cdn", At: 70_000, N: 5000, Times: 1})
		d := newPlace(t)
		var tee teeBuffer
		d.Tee = &tee
		sum, err := c.Download(t.Context(), repo, at, lfsFile("model.safetensors", data), d)
		if err != nil {
			t.Fatal(kind, err)
		}
		mustHave(t, d, sum, data)
		if !tee.lost && !bytes.Equal(tee.Bytes(), data) {
			t.Errorf("%s: the tee has %d bytes that are not the file, and was not told", kind, tee.Len())
		}
		if h.Hits() > 0 && kind != hubtest.RangeShifted && !tee.lost {
			t.Errorf("%s: it was not told", kind)
		}
	}
}
