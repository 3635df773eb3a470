package tensor

import "math"

// PagePositions is the number of positions that keys and values are allocated for at a time.
const PagePositions = 256

// KVShape is what a model keeps for each position.
type KVShape struct{ Layers, Heads, HeadDim int }

// PageBytes is the size of a page.
func (s KVShape) PageBytes() int64 {
	return 4 * 2 * int64(s.Layers) * int64(s.Heads) * int64(s.HeadDim) * PagePositions
}

// KV holds the keys and values of one text. It grows by pages, so that what is there never moves.
type KV struct {
	shape KVShape
	pages [][]float32 // [layer][key, value][head][position][head dim]
}

// NewKV is empty.
func NewKV(shape KVShape) *KV { return &KV{shape: shape} }

// Grow makes room for this many positions. Only here is anything allocated.
func (kv *KV) Grow(positions int) {
	for len(kv.pages)*PagePositions < positions {
		kv.pages = append(kv.pages, make([]float32, kv.shape.PageBytes()/4))
	}
}

// Bytes allocated.
func (kv *KV) Bytes() int64 { return int64(len(kv.pages)) * kv.shape.PageBytes() }

// Keys and Values are the rows of one head on one page, [PagePositions][head dim].
func (kv *KV) Keys(page, layer, head int) []float32 { return kv.rows(page, layer*2, head) }

// Values: see Keys.
func (kv *KV) Values(page, layer, head int) []float32 { return kv.rows(page, layer*2+1, head) }

func (kv *KV) rows(page, plane, head int) []float32 {
	size := PagePositions * kv.shape.HeadDim
	return kv.pages[page][(plane*kv.shape.Heads+head)*size:][:size:size]
}

// Key and Value are one head's row of one position, to be written.
func (kv *KV) Key(layer, head, position int) []float32 {
	return kv.row(kv.Keys(position/PagePositions, layer, head), position)
}

// Value: see Key.
func (kv *KV) Value(layer, head, position int) []float32 {
	return kv.row(kv.Values(position/PagePositions, layer, head), position)
}

func (kv *KV) row(rows []float32, position int) []float32 {
	d := kv.shape.HeadDim
	return rows[position%PagePositions*d:][:d:d]
}

// Attend writes what one head sees of the positions lo to before hi: softmax(query·keys * scale) · values. scores needs room for a page multiple of hi. Exponentials are float64 routines
// rounded to float32, their sum is float64; values are added four positions at a time, at multiples of four, so that the result depends on nothing but lo, hi and what stands there.
func (kv *KV) Attend(dst, query []float32, layer, head, lo, hi int, scale float32, scores []float32) {
	d := kv.shape.HeadDim
	most := float32(math.Inf(-1))
	for at := lo; at < hi; {
		end := min(hi, (at/PagePositions+1)*PagePositions)
		keys := kv.Keys(at/PagePositions, layer, head)
		dots(scores[at:end], query[:d], keys[at%PagePositions*d:])
		at = end
	}
	for i, s := range scores[lo:hi] {
		s = float32(s * scale)
		scores[lo+i] = s
		if s > most {
			most = s
		}
	}
	var total float64
	for i, s := range scores[lo:hi] {
		e := float32(Exp(float64(s - most)))
		scores[lo+i] = e
		total += float64(e)
	}
	dst = dst[:d]
	clear(dst)
	for at := lo; at < hi; {
		end := min(hi, (at/PagePositions+1)*PagePositions)
		kv.addValues(dst, kv.Values(at/PagePositions, layer, head), scores, at, end)
		at = end
	}
	inverse := float32(1 / total)
	for i := range dst {
		dst[i] = float32(dst[i] * inverse)
	}
}

// dots writes query times each of neighbouring keys.
func dots(dst, query, keys []float32) {
	d := len(query)
	i := 0
	if useFour && d%8 == 0 {
		var out [2]float32
		for ; i+2 <= len(dst); i += 2 {
			k := keys[i*d:][:2*d]
			dotPair(&out, &query[0], &k[0], &k[d], d/8)
			dst[i], dst[i+1] = out[0], out[1]
		}
	}
	for ; i < len(dst); i++ {
		dst[i] = Dot(query, keys[i*d:][:d])
	}
}

// addValues adds weights[p] * values of position p for positions of one page.
func (kv *KV) addValues(dst, values, weights []float32, at, end int) {
	d := kv.shape.HeadDim
	for at < end {
		v := values[at%PagePositions*d:]
		if at%4 == 0 && at+4 <= end && useFour && d%8 == 0 {
			four := v[:4*d]
			addFour(&dst[0], &four[0], 4*d, d/8, (*[4]float32)(weights[at:]))
			at += 4
			continue
		}
		if at%4 == 0 && at+4 <= end {
			add4(dst, v[:d], v[d:][:d], v[2*d:][:d], v[3*d:][:d], weights[at], weights[at+1], weights[at+2], weights[at+3])
			at += 4
			continue
		}
		w := weights[at]
		for i, x := range v[:d] {
			dst[i] += float32(w * x)
		}
		at++
	}
}

func add4(dst, v0, v1, v2, v3 []float32, w0, w1, w2, w3 float32) {
	n := len(dst)
	v0, v1, v2, v3 = v0[:n], v1[:n], v2[:n], v3[:n]
	for i := range dst {
		dst[i] += (float32(w0*v0[i]) + float32(w1*v1[i])) + (float32(w2*v2[i]) + float32(w3*v3[i]))
	}
}
