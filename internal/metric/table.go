// Package metric has the definitions behind every figure of a validation: what is measured, which direction is better, and how it is computed from logits.
//
// Logits are float32 as a runtime made them; everything computed from them is float64, from the first subtraction on. Probabilities are never stored: a log-softmax in 16 bits is off by more
// than most quantizations (genlm-backend PR 66: 0.06 to 0.19).
package metric

import "slices"

// Names of metrics.
const (
	LogitErrorRel   = "logit_error_rel"
	LogitErrorAbs   = "logit_error_abs"
	ProbError       = "prob_error"
	CosineDistance  = "cosine_distance"
	KLDMean         = "kld_mean"
	KLDMedian       = "kld_median"
	KLDP99          = "kld_p99"
	KLDMax          = "kld_max"
	Top1            = "top1_agreement"
	Top5            = "top5_agreement"
	TokenMismatches = "token_mismatches"
	PerplexityRatio = "perplexity_ratio"
	KLDVsAccepted   = "kld_vs_accepted"
)

// Metric says what a figure is and how it is judged.
type Metric struct {
	Name     string
	Unit     string // "" for a plain number, "nats", "share", "tokens"
	Higher   bool   // higher is better: judged by min, everything else by max
	Relative bool   // a change against something accepted: bounds are written +10%
	Margin   bool   // its rule may have a margin
	Doc      string // one line
}

// Table of all metrics, in the order they are shown. The schema of recipes names the same.
var Table = []Metric{
	{Name: LogitErrorRel, Doc: "largest difference of a position's logits over the largest logit there, worst position"},
	{Name: LogitErrorAbs, Doc: "largest difference of any logit"},
	{Name: ProbError, Doc: "largest difference of any token's probability"},
	{Name: CosineDistance, Doc: "1 - cosine of the two logit vectors, worst position"},
	{Name: KLDMean, Unit: "nats", Doc: "mean over positions of KL(reference || target)"},
	{Name: KLDMedian, Unit: "nats", Doc: "median of the same"},
	{Name: KLDP99, Unit: "nats", Doc: "99th percentile of the same"},
	{Name: KLDMax, Unit: "nats", Doc: "largest of the same"},
	{Name: Top1, Unit: "share", Higher: true, Doc: "share of positions where both have the same likeliest token"},
	{Name: Top5, Unit: "share", Higher: true, Doc: "share of positions where the reference's likeliest token is among the target's five likeliest"},
	{Name: TokenMismatches, Unit: "tokens", Margin: true, Doc: "tokens of the reference's greedy text that the target would not have chosen, ties left out"},
	{Name: PerplexityRatio, Doc: "perplexity of the target over that of the reference, on the same tokens"},
	{Name: KLDVsAccepted, Relative: true, Doc: "kld_mean against the accepted value, as a change"},
}

// Find a metric by name.
func Find(name string) (Metric, bool) {
	i := slices.IndexFunc(Table, func(m Metric) bool { return m.Name == name })
	if i < 0 {
		return Metric{}, false
	}
	return Table[i], true
}
