package main

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/hub"
	"github.com/mlxbuild/mlxbuild/planner"
)

type cacheCmd struct {
	Stats  cacheStatsCmd  `cmd:"" help:"Show where the cache is and what is in it."`
	GC     cacheGCCmd     `cmd:"" name:"gc" help:"Make it smaller: what costs least to make again goes first."`
	Verify cacheVerifyCmd `cmd:"" help:"Hash everything in it and report damage."`
	Repair cacheRepairCmd `cmd:"" help:"Take damaged entries out, so that the next build makes them again."`
}

// withCache opens the cache for one command.
func (a *app) withCache(do func(c *cache.Cache) error) error {
	c, err := a.openCache()
	if err != nil {
		return err
	}
	defer c.Close()
	return do(c)
}

type cacheStatsCmd struct{}

func (cacheStatsCmd) Run(a *app) error {
	return a.withCache(func(c *cache.Cache) error {
		s, err := c.Stats()
		if err != nil {
			return err
		}
		if a.json {
			return printJSON(a.stdout, s)
		}
		table(a.stdout, [][]string{
			{"folder", c.Dir()},
			{"blobs", fmt.Sprintf("%d, %s", s.Blobs, planner.Bytes(s.BlobBytes))},
			{"records", fmt.Sprint(s.Records)},
			{"downloads", planner.Bytes(s.PartBytes) + " begun"},
			{"cap", planner.Bytes(s.MaxSize) + " (MLXBUILD_CACHE_SIZE sets it)"},
		})
		return nil
	})
}

type cacheGCCmd struct {
	MaxSize string `name:"max-size" placeholder:"SIZE" help:"Shrink to this, such as 20GiB (default: the cap)."`
	DryRun  bool   `short:"n" help:"Only say what would go."`
}

func (cacheGCCmd) Help() string {
	return `Never touched: what a running build uses, and what is linked in a build/ folder that is still there.`
}

func (g cacheGCCmd) Run(a *app) error {
	return a.withCache(func(c *cache.Cache) error {
		o := cache.GCOptions{DryRun: g.DryRun}
		if g.MaxSize != "" {
			size, err := cache.ParseSize(g.MaxSize)
			if err != nil {
				return &fault{code: exitUsage, msg: fmt.Sprintf("--max-size %s: %v", g.MaxSize, err), hints: []string{"write it like 20GiB or 500MB"}}
			}
			o.MaxSize = size
		}
		r, err := c.GC(o)
		if err != nil {
			return err
		}
		if a.json {
			return printJSON(a.stdout, r)
		}
		word := "removed"
		if g.DryRun {
			word = "would remove"
		}
		if !g.DryRun {
			freed, err := hub.CleanParts(filepath.Join(c.Dir(), "parts"), nil, partsKept)
			if err != nil {
				return err
			}
			if freed > 0 {
				fmt.Fprintf(a.stdout, "removed downloads that nobody went on with, %s\n", planner.Bytes(freed))
			}
		}
		fmt.Fprintf(a.stdout, "%s %s, %s; %s stay\n", word, planner.Count(r.Blobs, "blob", "blobs"), planner.Bytes(r.Bytes), planner.Bytes(r.BytesLeft))
		return nil
	})
}

// partsKept is how long a download that was broken off is kept, so that it can go on.
const partsKept = 7 * 24 * time.Hour

type cacheVerifyCmd struct {
	Sample float64 `default:"1" placeholder:"P" help:"Check only this share of the blobs, such as 0.1 (default 1: all)."`
}

func (v cacheVerifyCmd) Run(a *app) error {
	if v.Sample <= 0 || v.Sample > 1 {
		return &fault{code: exitUsage, msg: "--sample must be above 0 and at most 1"}
	}
	return a.withCache(func(c *cache.Cache) error {
		r, err := c.Verify(a.ctx, cache.VerifyOptions{Sample: v.Sample})
		if a.ctx.Err() != nil {
			return &fault{code: exitInterrupted, msg: "interrupted"}
		}
		if err != nil {
			return err
		}
		if a.json {
			if err := printJSON(a.stdout, r); err != nil {
				return err
			}
		} else {
			for _, d := range r.Damages {
				a.term.Line("%s: %s", d.Path, d.What)
			}
			fmt.Fprintf(a.stdout, "%s and %s checked, %s damaged\n", planner.Count(r.Blobs, "blob", "blobs"), planner.Count(r.Records, "record", "records"), fmt.Sprint(len(r.Damages)))
		}
		if len(r.Damages) > 0 {
			return &fault{code: exitFailed, msg: "the cache is damaged", hints: []string{"mlxbuild cache repair takes the damaged entries out; the next build makes them again"}}
		}
		return nil
	})
}

type cacheRepairCmd struct{}

func (cacheRepairCmd) Run(a *app) error {
	return a.withCache(func(c *cache.Cache) error {
		r, err := c.Repair(a.ctx)
		if err != nil {
			return err
		}
		if a.json {
			return printJSON(a.stdout, r)
		}
		for _, d := range r.Removed {
			fmt.Fprintf(a.stdout, "took out %s: %s\n", d.Path, d.What)
		}
		for _, s := range r.Rebuilds {
			fmt.Fprintf(a.stdout, "the next build makes again: %s\n", s)
		}
		if len(r.Removed) == 0 {
			fmt.Fprintln(a.stdout, "nothing is damaged")
		}
		return nil
	})
}
