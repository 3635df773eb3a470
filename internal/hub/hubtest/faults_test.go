package hubtest

import (
	"crypto/tls"
	"testing"
)

func tlsConfig(h *Hub) *tls.Config { return &tls.Config{RootCAs: h.Certificates()} }

func TestRandomFaultsAreOfTheirSeed(t *testing.T) {
	for seed := range uint64(50) {
		a, b := RandomFaults(seed), RandomFaults(seed)
		if len(a) < 1 || len(a) > 6 || len(a) != len(b) {
			t.Fatalf("seed %d: %v, %v", seed, a, b)
		}
		for i := range a {
			if a[i] != b[i] {
				t.Errorf("seed %d: %v, %v", seed, a[i], b[i])
			}
		}
	}
}
