// Package executor makes what is out of date in a plan, and nothing else.
//
// It obeys: every choice was the planner's. A run goes through three passes.
//
//  1. Look. In plan order each step gets its key, as far as the digests of its inputs are known without reading content: sources are known by their files'
//     metadata, made artifacts by their records. A step whose key has a record is settled; it is up to date when its output folder is in place too.
//  2. Demand, backwards. A step is needed when it was asked for and is not settled and in place, or when something needed takes its output. So a source that
//     only feeds settled steps is never read, and a conversion whose text is still wanted but whose weights are not is not made again.
//  3. Run. One goroutine owns all state of the run and makes every transition; workers get a step and hand back a result on a channel. A step whose inputs
//     are settled is looked at again, because an input that was made again may have come out the same (early cutoff).
//
// On failure nothing that needs the failed step runs; other steps go on with KeepGoing, else only those already running are finished. On cancellation running
// steps stop between blocks, their staging folders are removed, and what was finished stays finished: the next run goes on from there.
//
// Results are written in an order that is right at every instant: outputs into the cache, then the record, then the output folder by rename.
package executor
