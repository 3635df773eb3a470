package builtin

// draftSizes are the numbers of tokens that are drafted at a time. With the one before them they fill a tile of vectors, and headRows at most.
var draftSizes = [...]int{3, headRows - 1}

// worthwhile is how much faster than token by token a draft must promise to be.
const worthwhile = 1.2

// pace is what a step with a draft costs, where one without costs 1. That depends on the model, the arithmetic and the machine (4 bits of SmolLM2-135M on two cores: 1.4 and 2.5 in Fast, 1.3 and 2.0 in Int8, 1.9 and 2.5
// in Float32; plain Go: 4 and 8), so it is measured while texts are made. It decides how soon tokens come, and never which.
type pace struct {
	plain float64 // seconds
	cost  [len(draftSizes)]float64
}

// newPace guesses.
func newPace() pace { return pace{cost: [...]float64{2, 3.5}} }

// note how long a step took.
func (p *pace) note(drafted int, seconds float64) {
	if drafted == 0 {
		if p.plain == 0 {
			p.plain = seconds
		}
		p.plain += float64((seconds - p.plain) / 8)
		return
	}
	for i, n := range draftSizes {
		if drafted <= n {
			took := min(seconds/p.plain, float64(1+n)) // more is the machine's doing
			p.cost[i] += float64((took - p.cost[i]) / 4)
			return
		}
	}
}

// size of the draft that promises the most tokens in the time, at most room, where tokens are foretold rightly with this probability; 0 where none is worth its time.
func (p *pace) size(right float64, room int) int {
	best, most := 0, worthwhile
	for i, n := range draftSizes {
		n = min(n, room)
		tokens := 1.
		for range n {
			tokens = 1 + float64(right*tokens)
		}
		if gain := tokens / p.cost[i]; p.plain > 0 && gain > most {
			best, most = n, gain
		}
	}
	return best
}
