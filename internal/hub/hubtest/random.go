package hubtest

import (
	"math/rand/v2"
	"slices"
	"time"
)

// RandomFaults makes one to six faults of a seed, for runs that look for what nobody thought of. A client that is right ends in the right bytes or in an error
// that says what is wrong, within a time that its retries and the faults' short waits bound. ClearFaults undoes what the plan does to repositories.
func RandomFaults(seed uint64) []Fault {
	rng := rand.New(rand.NewPCG(seed, 0x6d6c78))
	kinds := slices.DeleteFunc(Kinds(), func(k Kind) bool {
		return slices.Contains([]Kind{PlainHTTP, PrivateAddress, Landed}, k) // they need TLS, lead off loopback, or concern uploads
	})
	var plan []Fault
	for range 1 + rng.IntN(6) {
		k := kinds[rng.IntN(len(kinds))]
		routes := k.Routes()
		f := Fault{Kind: k, Route: routes[rng.IntN(len(routes))], Skip: rng.IntN(4), Times: 1 + rng.IntN(2), At: position(rng)}
		switch k {
		case Stall, Silence:
			f.Wait = time.Duration(50+rng.IntN(250)) * time.Millisecond
		case Slow:
			f.N, f.Wait = int64(1+rng.IntN(30)), time.Duration(1+rng.IntN(5))*time.Millisecond
		case Reset:
			f.At -= int64(rng.IntN(2))
		case Zeros, Short, Long, LengthUp, LengthOff:
			f.N = int64(1 + rng.IntN(5000))
		case Size:
			f.N = []int64{0, 1, 1 << 20, 50e9}[rng.IntN(4)]
		}
		if rng.IntN(10) == 0 {
			f.Times = -1 // some never end
		}
		plan = append(plan, f)
	}
	return plan
}

// position is a byte near an edge more often than not.
func position(rng *rand.Rand) int64 {
	edges := []int64{0, 1, 7, 8, 100, 511, 512, 4095, 4096, 65535, 65536, 1<<20 - 1, 1 << 20}
	if rng.IntN(3) > 0 {
		return edges[rng.IntN(len(edges))]
	}
	return rng.Int64N(2 << 20)
}
