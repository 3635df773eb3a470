package quant

// blockWeights is how many weights go through all stages at once: so few that what one stage reads or writes is still in the first cache for the next, so many that calling the stages costs
// little.
const blockWeights = 4096

// workspace is what stages hand over. There is room behind for what kernels read or write beyond the last group or code.
type workspace struct {
	lowest, highest, scales, biases, inverses [blockWeights / 16]float32     // a number for each group
	stored                                    [blockWeights / 16]byte        // scales of E8M0 or E4M3
	codes                                     [blockWeights + packBlock]byte // a byte each
	packed                                    [blockWeights/8*6 + packBlock]byte
	last                                      [packBlock]byte // what is packed when less than a block of codes is left
	values                                    [blockWeights]float32
}

// workspaces are those that nobody uses: what is handed to kernels of a table is on the heap, and would be allocated for each call. A sync.Pool may forget what it is given.
var workspaces = make(chan *workspace, 64)

func takeWorkspace() *workspace {
	select {
	case w := <-workspaces:
		return w
	default:
		return new(workspace)
	}
}

func (w *workspace) giveBack() {
	select {
	case workspaces <- w:
	default:
	}
}

// quantize is Scheme.Quantize in blocks. What is odd about a block, plain Go looks at. On one core of a server of 2024 (Emerald Rapids) 4 bits in groups of 64 take 11.0 GB/s of bfloat16 from
// the cache with AVX-512, 9.7 with AVX2, and 0.86 in plain Go; from memory 9.7, and two cores 17.4, in a run in which MLX's CPU backend made 0.41 (bench quantize).
func (k *kernels) quantize(s Scheme, dst Packed, src []byte, t Float, cols int) error {
	w := takeWorkspace()
	defer w.giveBack()
	for at, end := 0, len(src)/t.Size(); at < end; at += blockWeights {
		n := min(blockWeights, end-at)
		part := s.part(dst, t, at, n)
		weights := src[at*t.Size():][:n*t.Size()]
		if !w.quantize(k, s, part, weights, t) && s.quantizePlain(part, weights, t, cols) != nil {
			return nonFinite(src, t, cols)
		}
	}
	return nil
}

// part are n weights of a packed matrix, from the one at number at on.
func (s Scheme) part(p Packed, t Float, at, n int) Packed {
	w0, s0, b0 := s.Sizes(1, at, t)
	w, sc, b := s.Sizes(1, n, t)
	return Packed{p.Weight[w0:][:w], p.Scales[s0:][:sc], p.Biases[b0:][:b]}
}

// quantize takes one block through the stages, or reports that it is odd.
func (w *workspace) quantize(k *kernels, s Scheme, dst Packed, src []byte, t Float) bool {
	groups := w.ranges(k, src, t, s.GroupSize)
	if s.Mode == Affine {
		return w.affine(k, s, dst, src, t, groups)
	}
	return w.micro(k, s, dst, src, t, groups)
}

// ranges is the first stage. The groups missing in the last vector get the range of zeros.
func (w *workspace) ranges(k *kernels, src []byte, t Float, group int) (groups int) {
	groups = len(src) / t.Size() / group
	k.ranges[t][rangeIndex(group)](&w.lowest[0], &w.highest[0], &src[0], groups)
	last := k.vectors(groups) * k.lanes
	clear(w.lowest[groups:last])
	clear(w.highest[groups:last])
	return groups
}

// rangeIndex is the place of a group size in kernels.ranges.
func rangeIndex(group int) int {
	index := 0
	for group > 16 {
		group, index = group/2, index+1
	}
	return index
}

func (k *kernels) vectors(n int) int { return (n + k.lanes - 1) / k.lanes }

func (w *workspace) affine(k *kernels, s Scheme, dst Packed, src []byte, t Float, groups int) bool {
	grid := k.grid
	if s.Bits == 1 {
		grid = k.twoValueGrid
		w.signZeros(src, t, s.GroupSize, groups)
	}
	if grid(&w.scales[0], &w.biases[0], &w.inverses[0], &w.lowest[0], &w.highest[0], k.vectors(groups), float32(uint32(1)<<s.Bits-1)) != 0 {
		return false
	}
	t.Encode(dst.Scales, w.scales[:groups])
	t.Encode(dst.Biases, w.biases[:groups])
	codes := w.codes[:groups*s.GroupSize]
	if s.Bits == 8 {
		codes = dst.Weight
	}
	k.affineCodes[t](&codes[0], &src[0], &w.scales[0], &w.biases[0], &w.inverses[0], groups, s.GroupSize/32, &dst.Weight[0], 4*s.Bits)
	if s.Bits < 8 {
		w.pack(k.pack[s.Bits], dst.Weight, codes, s.Bits)
	}
	return true
}

// signZeros gives a lowest weight of zero the sign of the group's first zero: with codes of one bit it is the bias, where the sign shows.
func (w *workspace) signZeros(src []byte, t Float, group, groups int) {
	for g, lowest := range w.lowest[:groups] {
		if lowest != 0 {
			continue
		}
		for i := range group {
			if x := t.at(src, g*group+i); x == 0 {
				w.lowest[g] = x
				break
			}
		}
	}
}

func (w *workspace) micro(k *kernels, s Scheme, dst Packed, src []byte, t Float, groups int) bool {
	vectors := k.vectors(groups)
	largestCode := float32(6)
	if s.Bits == 8 {
		largestCode = 448
	}
	k.largest(&w.scales[0], &w.lowest[0], &w.highest[0], vectors, largestCode)
	if t != F32 {
		rounded := w.codes[:vectors*k.lanes*t.Size()]
		t.Encode(rounded, w.scales[:vectors*k.lanes])
		t.Decode(w.scales[:vectors*k.lanes], rounded)
	}
	var odd uint64
	if s.Mode == NVFP4 {
		odd = k.e4m3Scales(&w.stored[0], &w.scales[0], &w.inverses[0], &w.scales[0], vectors)
	} else {
		odd = k.powerScales(&w.stored[0], &w.inverses[0], &w.scales[0], vectors)
	}
	if odd != 0 {
		return false
	}
	copy(dst.Scales, w.stored[:groups])
	codes := w.codes[:groups*s.GroupSize]
	switch s.Mode {
	case MXFP8:
		k.mx8Codes[t](&dst.Weight[0], &src[0], &w.inverses[0], groups)
		return true
	case MXFP4:
		k.mx4Codes[t](&codes[0], &src[0], &w.inverses[0], groups)
	default:
		k.nv4Codes[t](&codes[0], &src[0], &w.scales[0], &w.inverses[0], groups)
	}
	w.pack(k.packE2M1, dst.Weight, codes, 4)
	return true
}

// pack packs codes; behind them a whole block has room.
func (w *workspace) pack(kernel func(dst, codes *byte, blocks int), dst, codes []byte, bits int) {
	whole := len(codes) / packBlock
	if whole > 0 {
		kernel(&dst[0], &codes[0], whole)
	}
	if rest := dst[whole*packBlock/8*bits:]; len(rest) > 0 {
		kernel(&w.last[0], &codes[whole*packBlock], 1)
		copy(rest, w.last[:])
	}
}

// dequantize is Scheme.dequantizePlain in blocks, or in groups where a block has what is not finite.
func (k *kernels) dequantize(s Scheme, dst []byte, p Packed, t Float) {
	w := takeWorkspace()
	defer w.giveBack()
	for at, end := 0, len(dst)/t.Size(); at < end; at += blockWeights {
		n := min(blockWeights, end-at)
		part, out := s.part(p, t, at, n), dst[at*t.Size():][:n*t.Size()]
		if w.decode(k, s, w.values[:n], part, t, t) {
			t.Encode(out, w.values[:n])
		} else {
			s.dequantizePlain(out, part, t)
		}
	}
}

// decodeRow is Scheme.decodeRowPlain in the same way.
func (k *kernels) decodeRow(s Scheme, dst []float32, p Packed, t Float, row int) {
	w := takeWorkspace()
	defer w.giveBack()
	for at := 0; at < len(dst); at += blockWeights {
		out := dst[at:][:min(blockWeights, len(dst)-at)]
		if part := s.part(p, t, row*len(dst)+at, len(out)); !w.decode(k, s, out, part, t, F32) {
			s.decodeRowPlain(out, part, t, 0, len(out))
		}
	}
}

// decode writes the values of one block, as decodeGroup does for a group.
func (w *workspace) decode(k *kernels, s Scheme, dst []float32, p Packed, t, to Float) bool {
	groups := len(dst) / s.GroupSize
	if !w.loadScales(s, p, t, to, groups) {
		return false
	}
	codes := p.Weight
	if s.Bits < 8 {
		copy(w.packed[:], p.Weight)
		k.unpack[s.Bits](&w.codes[0], &w.packed[0], (len(dst)+packBlock-1)/packBlock)
		codes = w.codes[:]
	}
	switch {
	case s.Mode == Affine:
		k.affineValues[to](&dst[0], &codes[0], &w.scales[0], &w.biases[0], groups, s.GroupSize/16)
	case s.Bits == 8:
		k.e4m3Values(&dst[0], &codes[0], &w.scales[0], groups, s.GroupSize/16)
	default:
		k.e2m1Values(&dst[0], &codes[0], &w.scales[0], groups, s.GroupSize/16)
	}
	return true
}

// loadScales widens the scales and biases of a block, or reports that one is not finite.
func (w *workspace) loadScales(s Scheme, p Packed, t, to Float, groups int) bool {
	if s.Mode == Affine {
		t.Decode(w.scales[:groups], p.Scales)
		t.Decode(w.biases[:groups], p.Biases)
		_, badScale := FirstNonFinite(p.Scales, t)
		_, badBias := FirstNonFinite(p.Biases, t)
		return !badScale && !badBias
	}
	values := e4m3()
	for g, b := range p.Scales {
		scale := values[b]
		if s.Mode != NVFP4 {
			scale = fastE8M0(b)
		}
		if to != F32 {
			scale = to.round(scale)
		}
		if scale-scale != 0 {
			return false
		}
		w.scales[g] = scale
	}
	return true
}
