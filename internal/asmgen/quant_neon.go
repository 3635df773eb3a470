package main

// The kernels of internal/quant for NEON: the stages of quant.go, each in a file as those of the other levels are, in registers of 16 bytes. No processor has timed them: where there was a choice, the way with fewer instructions was taken. What the
// other levels ask memory for ahead of time is left to the processor here.

func quantNEON() *file {
	f := newFile("internal/quant", "kernels_neon", "arm64", "")
	for _, n := range numbers {
		for _, group := range rangeGroups {
			f.rangesNEON(n, group)
		}
		f.finiteNEON(n)
	}
	f.affineGridNEON(false)
	f.affineGridNEON(true)
	f.largestNEON()
	f.powerScalesNEON()
	f.e4m3ScalesNEON()
	for _, n := range numbers {
		f.affineCodesNEON(n)
		f.mx4CodesNEON(n)
		f.mx8CodesNEON(n)
		f.nv4CodesNEON(n)
	}
	for _, bits := range packBits {
		f.packNEON(bits, false)
	}
	f.packNEON(4, true)
	for _, bits := range packBits {
		f.unpackNEON(bits)
	}
	for _, n := range numbers {
		f.affineValuesNEON(n)
	}
	f.e2m1ValuesNEON()
	f.e4m3ValuesNEON()
	for _, from := range numbers {
		for _, to := range numbers {
			if from != to || from.name == "F32" {
				f.castNEON(from, to)
			}
		}
	}
	return f
}
