package tensor

import (
	"math"
	"sync/atomic"
)

// Place says where a token stands: in which text, and at which position of it.
type Place struct {
	KV       *KV // has room for Position
	Position int
}

// chunk is the number of positions whose weights and values are summed up before they are put together with others: the work of one token is split there.
const chunk = 128

// chunkBlocks are the blocks of 64 positions in it.
const chunkBlocks = chunk / Block

// attendTiles are the numbers of vectors that the products of attention are written for.
var attendTiles = [...]int{1, 2, 3, 4, 6, 8, 12}

// maxTile is the largest.
const maxTile = 12

// tileFor is the place of the smallest tile that holds so many vectors.
func tileFor(vectors int) int {
	for i, t := range attendTiles {
		if t >= vectors {
			return i
		}
	}
	panic("tensor: too many vectors for a tile")
}

// Attention computes what heads see: softmax(query·keys * scale) · values.
//
// Keys and values are read once for all query heads that share them, and for some tokens of a text that follow each other: those are the vectors of a tile. The order of sums belongs to a head alone, whatever it is
// computed with: products are summed up over 64 columns or positions as in mulPlain; weights and values over chunks of positions, which are put together from the first to the last (see partial.fold). So the
// chunks of a token can be split between workers, too.
//
// With keys and values of 8 bits, queries become whole numbers as activations do for Fast, and so do weights, times the values' scales: their products with 64 columns or positions are exact.
type Attention struct {
	shape  KVShape
	heads  int // of queries
	group  int // of them share keys and values
	part   int // of a group are the vectors of a tile, as many as fit
	tokens int // of a tile, where there are as many
	scale  float32

	scratch []attendScratch // by worker

	// what was planned
	places   []Place
	window   int
	jobs     []attendJob
	split    bool    // into chunks
	of       []int32 // by chunk: whose it is
	shares   []attendShare
	partials []partial // by chunk: what was seen there
	sums     []partial // by job: the first of those together
}

// attendJob is some tokens' vectors of one group. A worker takes all of it at a time, or some chunks where jobs are split.
type attendJob struct {
	token, tokens int
	head          int // of keys and values
	first, heads  int // of queries
	lo, hi        int // chunks

	// of a job that is split
	at     int // its first chunk among those of all jobs
	folded int // chunks that are put together, from the first on
}

// attendShare are chunks, or jobs, that nobody has begun. Its worker takes the first of them, so that it reads on where it, and what fetches ahead of it, already is; a worker that has none left takes the last of others.
type attendShare struct {
	lo, hi int           // all of it
	left   atomic.Uint64 // lo<<32 | hi
	_      [40]byte      // workers that write to the same line would wait for each other
}

// begin makes chunks lo to before hi those of a share.
func (s *attendShare) begin(lo, hi int) {
	s.lo, s.hi = lo, hi
	s.left.Store(uint64(lo)<<32 | uint64(hi))
}

// mostTaken is how many are taken at a time. Of one token's attention with keys and values of 8 bits, a sixth was to take chunks one by one and to put each together with those before it.
const mostTaken = 4

// take gives out some chunks, the first or the last, and half of them at most, so that all workers end at the same time.
func (s *attendShare) take(last bool) (lo, hi int, ok bool) {
	for {
		left := s.left.Load()
		lo, hi := left>>32, left&math.MaxUint32
		if lo == hi {
			return 0, 0, false
		}
		middle := lo + min((hi-lo+1)/2, mostTaken)
		after := middle<<32 | hi
		if last {
			middle = hi - min((hi-lo+1)/2, mostTaken)
			lo, after = middle, lo<<32|middle
		} else {
			hi = middle
		}
		if s.left.CompareAndSwap(left, after) {
			return int(lo), int(hi), true
		}
	}
}

// attendScratch is one worker's.
type attendScratch struct {
	query  vectors    // [64 dims][vector][dim]
	scores vectors    // [64 positions][vector][position]; then the weights
	sum    [1]partial // of one chunk
	all    partial    // of all up to it

	factors []float32 // of partial.fold

	// where jobs are split
	packed *attendJob // whose queries those are
	next   int        // the chunk that can be put together with those before it
}

// vectors are numbers by 64, and what those are as whole numbers, 16 bits each, times a step for each 64.
type vectors struct {
	floats []float32
	words  []byte
	steps  []float32
}

func newVectors(n int, t KVType) vectors {
	v := vectors{floats: make([]float32, n)}
	if t == KVInt8 {
		v.words, v.steps = make([]byte, 2*n), make([]float32, n/Block)
	}
	return v
}

func (v *vectors) bytes() int64 { return int64(4*len(v.floats) + len(v.words) + 4*len(v.steps)) }

// NewAttention makes room for as many workers. scale must be positive.
func NewAttention(shape KVShape, heads, workers int, scale float32) *Attention {
	a := &Attention{shape: shape, heads: heads, group: heads / shape.Heads, scale: scale, scratch: make([]attendScratch, workers), shares: make([]attendShare, workers)}
	parts := (a.group + maxTile - 1) / maxTile
	a.part = (a.group + parts - 1) / parts
	a.tokens = maxTile / a.part
	for w := range a.scratch {
		s := &a.scratch[w]
		s.query, s.scores = newVectors(a.dims()*maxTile, shape.Type), newVectors(chunk*maxTile, shape.Type)
		s.sum[0], s.all = newPartial(a.dims()), newPartial(a.dims())
		s.factors = make([]float32, foldFactors(1, maxTile))
	}
	return a
}

// dims are those of a head in whole blocks of 64.
func (a *Attention) dims() int { return (a.shape.HeadDim + Block - 1) / Block * Block }

// Bytes of the buffers.
func (a *Attention) Bytes() int64 {
	s := &a.scratch[0]
	one := s.all.bytes()
	return int64(len(a.scratch))*(s.query.bytes()+s.scores.bytes()+4*int64(len(s.factors))+2*one) + int64(len(a.partials)+len(a.sums))*one
}

// enoughJobs for each worker, so that none waits long for another's last.
const enoughJobs = 4

// Plan splits the work of a layer for tokens; those of one text stand in the order of their positions, one after the other. window is how many positions a token sees, itself included; 0: all.
// It allocates nothing, but for texts longer than any before.
func (a *Attention) Plan(places []Place, window int) {
	a.places, a.window = places, window
	a.jobs = a.jobs[:0]
	for end := len(places); end > 0; { // later tokens see more: their jobs are begun first
		from := end - 1
		for from > 0 && end-from < a.tokens && places[from-1].KV == places[end-1].KV {
			from--
		}
		a.plan(from, end)
		end = from
	}
	chunks := 0
	for i := range a.jobs {
		chunks += a.jobs[i].hi - a.jobs[i].lo
	}
	if a.split = len(a.scratch) > 1 && len(a.jobs) < min(chunks, enoughJobs*len(a.scratch)); a.split {
		a.splitJobs()
	}
	for w := range a.shares {
		a.shares[w].begin(Share(w, len(a.shares), a.pieces(), 1))
	}
}

// pieces is how many chunks or jobs there are to be taken.
func (a *Attention) pieces() int {
	if a.split {
		return len(a.of)
	}
	return len(a.jobs)
}

// plan adds the jobs of a tile of tokens.
func (a *Attention) plan(from, end int) {
	lo, _ := a.sees(from)
	_, hi := a.sees(end - 1)
	for head := range a.shape.Heads {
		for first := 0; first < a.group; first += a.part {
			a.jobs = append(a.jobs, attendJob{token: from, tokens: end - from, head: head, first: head*a.group + first, heads: min(a.part, a.group-first), lo: lo / chunk, hi: (hi-1)/chunk + 1})
		}
	}
}

// sees are the positions of a token: from lo to before hi.
func (a *Attention) sees(token int) (lo, hi int) {
	hi = a.places[token].Position + 1
	if a.window > 0 {
		lo = max(0, hi-a.window)
	}
	return lo, hi
}

// splitJobs makes pieces of the chunks of all jobs, in the order of jobs.
func (a *Attention) splitJobs() {
	a.of = a.of[:0]
	most := 0
	for i := range a.jobs {
		j := &a.jobs[i]
		j.at = len(a.of)
		most = max(most, j.hi-j.lo)
		for range j.hi - j.lo {
			a.of = append(a.of, int32(i))
		}
	}
	for len(a.partials) < len(a.of) {
		a.partials = append(a.partials, newPartial(a.dims()))
	}
	for len(a.sums) < len(a.jobs) {
		a.sums = append(a.sums, newPartial(a.dims()))
	}
	if n := max(foldFactors(most, 1), foldFactors(mostTaken, maxTile)); n > len(a.scratch[0].factors) {
		for w := range a.scratch {
			a.scratch[w].factors = make([]float32, n)
		}
	}
}

// Split reports whether Merge has to follow Work.
func (a *Attention) Split() bool { return a.split }

// Work is one worker's part of a layer: what nobody has taken, so that any number of them does all of it. q is [token][head][dim]; row is where a token's result belongs, [head][dim].
func (a *Attention) Work(worker, layer int, q []float32, row func(token int) []float32) {
	s := &a.scratch[worker]
	s.packed, s.next = nil, -1
	for lo, hi, ok := a.take(worker); ok; lo, hi, ok = a.take(worker) {
		if a.split {
			a.workChunks(s, worker, layer, lo, hi, q)
			continue
		}
		for i := lo; i < hi; i++ {
			a.workJob(s, &a.jobs[i], layer, q, row)
		}
	}
}

// take gives a worker some of its share, and then of those of others.
func (a *Attention) take(worker int) (lo, hi int, ok bool) {
	for w := range a.shares {
		if lo, hi, ok = a.shares[(worker+w)%len(a.shares)].take(w > 0); ok {
			break
		}
	}
	return lo, hi, ok
}

// workJob is all of a job.
func (a *Attention) workJob(s *attendScratch, j *attendJob, layer int, q []float32, row func(token int) []float32) {
	n := j.vectors()
	a.pack(s, j, q)
	s.all.clear(0, n)
	for c := j.lo; c < j.hi; c++ {
		a.chunk(s, &s.sum[0], j, layer, c, a.read(layer, j, min(c+1, j.hi-1)))
		s.all.fold(s.sum[:], 0, n, s.factors)
	}
	a.finish(&s.all, j, 0, n, row)
}

// workChunks is some chunks. Who computes the first of a job and goes on with the next ones puts them together at once.
func (a *Attention) workChunks(s *attendScratch, worker, layer, lo, hi int, q []float32) {
	for lo < hi {
		i := a.of[lo]
		j, sum := &a.jobs[i], &a.sums[i]
		end := min(hi, j.at+j.hi-j.lo)
		if j != s.packed {
			a.pack(s, j, q)
			s.packed = j
		}
		for at := lo; at < end; at++ {
			a.chunk(s, &a.partials[at], j, layer, j.lo+at-j.at, a.after(worker, layer, at))
		}
		if lo == j.at {
			sum.clear(0, j.vectors())
			s.next = lo
		}
		if lo == s.next {
			sum.fold(a.partials[lo:end], 0, j.vectors(), s.factors)
			s.next, j.folded = end, end-j.at
		}
		lo = end
	}
}

// after is what a worker reads after a chunk: the next of its share, or behind the last the first in the next layer.
func (a *Attention) after(worker, layer, at int) kvChunk {
	share := &a.shares[worker]
	if at++; at < share.lo || at >= share.hi {
		at, layer = min(share.lo, len(a.of)-1), (layer+1)%a.shape.Layers
	}
	j := &a.jobs[a.of[at]]
	return a.read(layer, j, j.lo+at-j.at)
}

// read is what is read for a chunk of a job.
func (a *Attention) read(layer int, j *attendJob, c int) kvChunk {
	return a.places[j.token].KV.chunk(layer, j.head, c)
}

// Merge is one of as many shares as there can be workers of putting the chunks of split jobs together that have not been yet, of every so-manieth vector.
func (a *Attention) Merge(share int, row func(token int) []float32) {
	s, turn := &a.scratch[share], 0
	for i := range a.jobs {
		j, sum := &a.jobs[i], &a.sums[i]
		left := a.partials[j.at:][:j.hi-j.lo][j.folded:]
		for r := range j.vectors() {
			if turn%len(a.scratch) == share {
				sum.fold(left, r, r+1, s.factors)
				a.finish(sum, j, r, r+1, row)
			}
			turn++
		}
	}
}

// vectors are those of a job.
func (j *attendJob) vectors() int { return j.tokens * j.heads }

// pack lays the queries of a job out as vectors, with zeros up to the tile and to whole steps of columns.
func (a *Attention) pack(s *attendScratch, j *attendJob, q []float32) {
	d, tile := a.shape.HeadDim, attendTiles[tileFor(j.vectors())]
	query := s.query.floats[:a.dims()*tile]
	clear(query)
	for r := range j.vectors() {
		t, h := j.token+r/j.heads, j.first+r%j.heads
		x := q[(t*a.heads+h)*d:][:d]
		for at := 0; at < d; at += Block {
			copy(query[at*tile+r*Block:][:Block], x[at:])
		}
	}
	if a.shape.Type == KVInt8 {
		for b := range a.dims() / Block {
			s.query.round(b*tile, tile, &ones)
		}
	}
}

// ones leave numbers as they are.
var ones = func() (x [Block]float32) {
	for i := range x {
		x[i] = 1
	}
	return x
}()

// chunk computes one chunk of positions for the vectors of a job. next is what is read after it.
func (a *Attention) chunk(s *attendScratch, out *partial, j *attendJob, layer, c int, next kvChunk) {
	kv, n, base := a.places[j.token].KV, j.vectors(), c*chunk
	tile := attendTiles[tileFor(n)]
	lo, _ := a.sees(j.token)
	_, hi := a.sees(j.token + j.tokens - 1)
	lo, hi = max(lo-base, 0), min(hi-base, chunk)
	from, to := lo/Block, (hi+Block-1)/Block // blocks
	keys, values := kv.keys(layer, j.head, c), kv.values(layer, j.head, c)
	ask(next.scales)
	a.score(s, keys, tile, from, to, values.behind(from*Block*a.shape.HeadDim))
	var keyScales, valueScales []float32
	if a.shape.Type == KVInt8 {
		keyScales, valueScales = kv.scales(layer, j.head, c)
		for b := from; b < to; b++ {
			mulVectors(s.scores.floats[b*Block*tile:], keyScales[b*Block:], tile)
		}
	}
	for r := range n {
		lo, hi := a.sees(j.token + r/j.heads)
		a.weigh(s, out, r, tile, from, to, lo-base, hi-base)
	}
	if a.shape.Type == KVInt8 {
		for b := from; b < to; b++ {
			s.scores.round(b*tile, tile, (*[Block]float32)(valueScales[b*Block:]))
		}
	}
	a.mix(s, out, values, tile, from, to, hi, next.numbers)
}

// score multiplies blocks of keys with the queries, and asks for the next block at each, and for what is next at the last.
func (a *Attention) score(s *attendScratch, keys numbers, tile, from, to int, next numbers) {
	columns := a.shape.columns()
	for b := from; b < to; b++ {
		ahead := next
		if b+1 < to {
			ahead = keys.behind((b + 1) * Block * columns)
		}
		block := keys.from(b*Block*columns, Block*columns)
		for at := 0; at < columns; at += Block {
			n := min(Block, columns-at)
			mulRows(s.scores.floats[b*Block*tile:], Block, block.from(at*Block, n*Block), Block, &s.query, at/Block*tile, tile, n/4, at > 0, ahead.behind(at*Block))
		}
	}
}

// weigh makes weights of the scores of vector r, 0 for positions outside lo to before hi.
func (a *Attention) weigh(s *attendScratch, out *partial, r, tile, from, to, lo, hi int) {
	out.sees[r] = lo < to*Block && hi > from*Block
	if !out.sees[r] {
		return // and its weights are never used
	}
	for b := from; b < to; b++ {
		if lo <= b*Block && hi >= (b+1)*Block {
			continue
		}
		x := s.scores.floats[(b*tile+r)*Block:][:Block]
		for i := range min(max(lo-b*Block, 0), Block) {
			x[i] = float32(math.Inf(-1))
		}
		for i := min(max(hi-b*Block, 0), Block); i < Block; i++ {
			x[i] = float32(math.Inf(-1))
		}
	}
	out.most[r], *out.total(r) = softmax(s.scores.floats[(from*tile+r)*Block:], tile*Block, to-from, a.scale)
}

// mix multiplies values of positions up to hi with the weights, and asks as score does.
func (a *Attention) mix(s *attendScratch, out *partial, values numbers, tile, from, to, hi int, next numbers) {
	d, side := a.shape.HeadDim, a.shape.Type.side()
	for b := from; b < to; b++ {
		ahead := next
		if b+1 < to {
			ahead = values.behind((b + 1) * Block * d)
		}
		n := (min(hi-b*Block, Block) + 3) / 4
		rows := values.from(b*Block*d, 4*n*d+behind)
		for at := 0; at < d; at += Block {
			mulRows(out.sums[at:], out.stride, rows.from(at*side, (4*n-side)*d+side*Block), d, &s.scores, b*tile, tile, n, b > from, ahead.behind(at*Block))
		}
	}
}

// finish writes the results of some vectors of a job to where they belong.
func (a *Attention) finish(p *partial, j *attendJob, lo, hi int, row func(token int) []float32) {
	d := a.shape.HeadDim
	for r := lo; r < hi; r++ {
		dst := row(j.token + r/j.heads)[(j.first+r%j.heads)*d:][:d]
		scaleTo(dst, p.vector(r)[:d], 1 / *p.total(r))
	}
}

// partial is what vectors saw in some positions: values times exp(score - most), summed up, and behind them, where the same becomes of it, the sum of the weights.
type partial struct {
	sees   [maxTile]bool // anything at all
	most   [maxTile]float32
	sums   []float32 // [vector][stride]
	stride int
}

// newPartial has room for the largest tile.
func newPartial(dims int) partial {
	return partial{sums: make([]float32, maxTile*(dims+16)), stride: dims + 16}
}

func (p *partial) bytes() int64 { return 4 * int64(len(p.sums)+maxTile) }

// vector is what vector r saw, and total the sum of its weights.
func (p *partial) vector(r int) []float32 { return p.sums[r*p.stride:][:p.stride] }
func (p *partial) total(r int) *float32   { return &p.sums[(r+1)*p.stride-16] }

// clear empties vectors lo to before hi.
func (p *partial) clear(lo, hi int) {
	for r := lo; r < hi; r++ {
		p.most[r] = -math.MaxFloat32
		clear(p.vector(r))
	}
}

// foldFactors is how many factors fold needs, in whole steps of exps.
func foldFactors(parts, vectors int) int { return (2*parts*vectors + 15) / 16 * 16 }

// fold adds what vectors lo to before hi saw in the next positions, one part of them after the other: each time, both are scaled to the larger score, one of them by 1.
func (p *partial) fold(next []partial, lo, hi int, factors []float32) {
	factors = factors[:foldFactors(len(next), hi-lo)]
	at := 0
	for r := lo; r < hi; r++ {
		for i := range next {
			keep, take := float32(0), float32(0)
			if n := &next[i]; n.sees[r] {
				most := max(p.most[r], n.most[r])
				keep, take = p.most[r]-most, n.most[r]-most
				p.most[r] = most
			}
			factors[at], factors[at+1] = keep, take
			at += 2
		}
	}
	clear(factors[at:])
	exps(factors)
	for r := lo; r < hi; r++ {
		for i := range next {
			keep, take := factors[0], factors[1]
			factors = factors[2:]
			if n := &next[i]; n.sees[r] {
				blend(p.vector(r), n.vector(r), keep, take)
			}
		}
	}
}

// softmax replaces the scores of some blocks of 64, which are stride apart, by exp(score*scale - most), most being the largest of score*scale, and gives the sum as well: in 16 sums, one for each of 16
// neighbours, which are added 8 apart, 4, 2 and 1 apart. A NaN is no largest.
func softmax(scores []float32, stride, blocks int, scale float32) (most, total float32) {
	_ = scores[(blocks-1)*stride+Block-1]
	if active.softmax != nil {
		return active.softmax(&scores[0], 4*stride, blocks, scale)
	}
	var largest, sums [16]float32
	for l := range largest {
		largest[l] = -math.MaxFloat32
	}
	for b := range blocks {
		for i := range Block {
			s := &scores[b*stride+i]
			*s = float32(*s * scale)
			largest[i%16] = larger(*s, largest[i%16])
		}
	}
	for apart := 8; apart > 0; apart /= 2 {
		for l := range apart {
			largest[l] = larger(largest[l+apart], largest[l])
		}
	}
	most = largest[0]
	for b := range blocks {
		for i := range Block {
			s := &scores[b*stride+i]
			*s = exp32(*s - most)
			sums[i%16] += *s
		}
	}
	for apart := 8; apart > 0; apart /= 2 {
		for l := range apart {
			sums[l] += sums[l+apart]
		}
	}
	return most, sums[0]
}

// larger is b unless a is larger.
func larger(a, b float32) float32 {
	if a > b {
		return a
	}
	return b
}

// mulVectors multiplies vectors of 64, one after the other in dst, with one of them, number by number.
func mulVectors(dst, x []float32, vectors int) {
	dst, x = dst[:vectors*Block], x[:Block]
	if active.mulVectors != nil {
		active.mulVectors(&dst[0], &x[0], vectors)
		return
	}
	for i := range dst {
		dst[i] = float32(dst[i] * x[i%Block])
	}
}

// round makes whole numbers of some vectors of 64, times factors: those from at on. See integersOf.
func (v *vectors) round(at, n int, factors *[Block]float32) {
	x, words, steps := v.floats[at*Block:][:n*Block], v.words[at*packedBytes:][:n*packedBytes], v.steps[at:][:n]
	if active.roundVectors != nil {
		active.roundVectors(&words[0], &steps[0], &x[0], &factors[0], n)
		return
	}
	var one [Block]float32
	var q [Block]int32
	var sums [Block / 16]int32
	for t := range steps {
		for i, f := range factors {
			one[i] = float32(x[t*Block+i] * f)
		}
		steps[t] = integersOf(&q, &sums, one[:], 2)
		pack(words[t*packedBytes:][:packedBytes], &q, asWords)
	}
}

// mulRows multiplies 64 rows, which stand side by side in each of 4*steps columns, rowStride numbers apart, with a tile of vectors of 64 columns, from vector at of x on; at most one block of columns. The product of
// row r and vector t, a chain of fused multiply-adds from the first column on, beginning with 0, is added to dst[t*stride+r], or to 0. With KVInt8, where columns lie in pairs, the sum of the vector's whole numbers times the
// row's is exact, and added as the product with the step that it is.
//
// ahead is what kernels of few vectors ask memory for meanwhile: numbers that are multiplied next.
func mulRows(dst []float32, stride int, rows numbers, rowStride int, x *vectors, at, tile, steps int, add bool, ahead numbers) {
	i, side, floats := tileFor(tile), rows.typ.side(), x.floats[at*Block:]
	_ = rows.from((4*steps-side)*rowStride, side*Block) // what a kernel reads and writes is there
	_, _ = floats[(tile-1)*Block+4*steps-1], dst[(tile-1)*stride+Block-1]
	flag := 0
	if add {
		flag = 1
	}
	switch {
	case rows.typ == KVInt8 && active.attendI8[i] != nil:
		words, of := x.words[at*packedBytes:][:tile*packedBytes], x.steps[at:][:tile]
		active.attendI8[i](&dst[0], 4*stride, &rows.data[0], 2*rowStride, &words[0], &of[0], steps, flag, &ahead.data[0])
	case rows.typ == KVInt8:
		mulPairsPlain(dst, stride, rows, rowStride, x, at, tile, steps, add)
	case active.attend[rows.typ][i] != nil:
		active.attend[rows.typ][i](&dst[0], 4*stride, &rows.data[0], rows.typ.bytes()*rowStride, &floats[0], steps, flag, &ahead.data[0])
	default:
		mulRowsPlain(dst, stride, rows, rowStride, floats, tile, steps, add)
	}
}

// mulRowsPlain is mulRows of floats without kernels.
func mulRowsPlain(dst []float32, stride int, rows numbers, rowStride int, x []float32, tile, steps int, add bool) {
	var chains [maxTile][Block]float32
	for k := range 4 * steps {
		for r := range Block {
			w := rows.at(k*rowStride + r)
			for t := range tile {
				chains[t][r] = fma(w, x[t*Block+k], chains[t][r])
			}
		}
	}
	for t := range tile {
		for r, c := range chains[t] {
			if add {
				dst[t*stride+r] += c
			} else {
				dst[t*stride+r] = 0 + c
			}
		}
	}
}

// mulPairsPlain is mulRows of whole numbers without kernels.
func mulPairsPlain(dst []float32, stride int, rows numbers, rowStride int, x *vectors, at, tile, steps int, add bool) {
	for t := range tile {
		var sums [Block]int32
		for k := range 4 * steps {
			w := int32(int16(le.Uint16(x.words[(at+t)*packedBytes+2*k:])))
			for r := range sums {
				sums[r] += w * int32(int8(rows.data[k/2*2*rowStride+2*r+k%2]))
			}
		}
		for r, sum := range sums {
			before := float32(0)
			if add {
				before = dst[t*stride+r]
			}
			dst[t*stride+r] = fma(x.steps[at+t], float32(sum), before)
		}
	}
}
