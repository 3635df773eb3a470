package convert_test

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mlxbuild/mlxbuild/internal/cache"
	"github.com/mlxbuild/mlxbuild/internal/step"
	"github.com/mlxbuild/mlxbuild/internal/step/convert"
)

// variants of one folder, opened once as a build does.
func variants(t *testing.T, dir string, yaml ...string) (plans []*convert.Plan) {
	t.Helper()
	for _, y := range yaml {
		p := mustDecide(t, dir, y)
		if len(plans) > 0 {
			var err error
			if p, err = convert.Decide(plans[0].Source, p.Options); err != nil {
				t.Fatal(err)
			}
		}
		plans = append(plans, p)
	}
	return plans
}

// convertTogether converts all plans in one pass, at a meeting that one more step leaves.
func convertTogether(t *testing.T, c *cache.Cache, plans []*convert.Plan, stats *convert.Stats, progress func(int64)) (files [][]step.File, errs []error) {
	t.Helper()
	files, errs = make([][]step.File, len(plans)), make([]error, len(plans))
	seats := step.NewMeeting(len(plans) + 1)
	var all sync.WaitGroup
	for i, p := range plans {
		all.Go(func() {
			files[i], errs[i] = writeTo(t, c, p, convert.WriteEnv{Stats: stats, Progress: progress, Seat: seats[i]})
		})
	}
	seats[len(plans)].Leave()
	all.Wait()
	return files, errs
}

var many = []string{"{bits: 4, group_size: 32}", "{bits: 8, group_size: 32}", "{bits: 3, group_size: 64}", "{mode: mxfp4}", "{quantize: false}",
	"{bits: 4, group_size: 32, overrides: [{match: down_proj, layers: 1, bits: 8}]}"}

// Conversions that are made in one pass are what each is alone, and the source is read once.
func TestPass(t *testing.T) {
	dir := makeFolder(t, nil)
	for _, cores := range []int{1, 4} {
		before := runtime.GOMAXPROCS(cores)
		defer runtime.GOMAXPROCS(before)
		var stats convert.Stats
		plans := variants(t, dir, many...)
		files, errs := convertTogether(t, openCache(t), plans, &stats, nil)
		for i, p := range plans {
			alone, err := writeTo(t, openCache(t), p, convert.WriteEnv{})
			if err != nil || errs[i] != nil || !slices.Equal(alone, files[i]) {
				t.Errorf("%s: the files are not those of a conversion alone: %v, %v", many[i], errs[i], err)
			}
		}
		if got := stats.Source.Load(); got != plans[0].BytesIn {
			t.Errorf("%d bytes of the source were read, which has %d", got, plans[0].BytesIn)
		}
	}
}

// What is in the cache is not made again, beside conversions that need it.
func TestPassReuses(t *testing.T) {
	dir, c := makeFolder(t, nil), openCache(t)
	plans := variants(t, dir, many...)
	if _, err := writeTo(t, c, plans[0], convert.WriteEnv{}); err != nil {
		t.Fatal(err)
	}
	var stats convert.Stats
	files, errs := convertTogether(t, c, []*convert.Plan{plans[0], plans[5]}, &stats, nil)
	want, err := writeTo(t, openCache(t), plans[5], convert.WriteEnv{})
	if err != nil || errs[0] != nil || errs[1] != nil || !slices.Equal(files[1], want) {
		t.Errorf("the files are not those of a cold build: %v, %v", errs, err)
	}
	if got := stats.Source.Load(); got != 64*96*4 {
		t.Errorf("%d bytes of the source were read, want those of one tensor", got)
	}
}

// One that fails says why and leaves the others to go on; what happens to the source happens to all.
func TestPassFails(t *testing.T) {
	dir := makeFolder(t, func(_ map[string]any, _ map[string][]int64, values map[string][]float32) {
		values["model.layers.1.mlp.up_proj.weight"][7*64+9] = float32(math.NaN())
	})
	plans := variants(t, dir, many...)
	files, errs := convertTogether(t, openCache(t), plans, &convert.Stats{}, nil)
	for i, p := range plans {
		if p.Options.Quantization.Quantize {
			if errs[i] == nil || !strings.Contains(errs[i].Error(), "model.layers.1.mlp.up_proj.weight has NaN in row 7, column 9") {
				t.Errorf("%s: %v", many[i], errs[i])
			}
			continue
		}
		alone, err := writeTo(t, openCache(t), p, convert.WriteEnv{})
		if err != nil || errs[i] != nil || !slices.Equal(alone, files[i]) {
			t.Errorf("%s, beside others that failed: %v, %v", many[i], errs[i], err)
		}
	}

	cut := makeFolder(t, nil)
	plans = variants(t, cut, many[:3]...)
	_, errs = convertTogether(t, openCache(t), plans, &convert.Stats{}, func(int64) {
		if err := os.Truncate(filepath.Join(cut, "model.safetensors"), 5000); err != nil {
			t.Error(err)
		}
	})
	for i, err := range errs {
		if err == nil || !strings.Contains(err.Error(), "became shorter") && !strings.Contains(err.Error(), "changed while") {
			t.Errorf("%s of a source that was cut: %v", many[i], err)
		}
	}
}

// One that fails does not wait for the others: here one of those waits for it, with its last block.
func TestPassFailsAtOnce(t *testing.T) {
	dir := makeFolder(t, func(_ map[string]any, _ map[string][]int64, values map[string][]float32) {
		values["model.layers.1.mlp.up_proj.weight"][7*64+9] = float32(math.NaN())
	})
	c, plans, seats := openCache(t), variants(t, dir, "{bits: 4, group_size: 32}", "{quantize: false}"), step.NewMeeting(2)
	failed := make(chan struct{})
	go func() {
		defer close(failed)
		if _, err := writeTo(t, c, plans[0], convert.WriteEnv{Seat: seats[0]}); err == nil || !strings.Contains(err.Error(), "has NaN") {
			t.Error(err)
		}
	}()
	var done atomic.Int64
	_, err := writeTo(t, c, plans[1], convert.WriteEnv{Seat: seats[1], Progress: func(n int64) {
		if done.Add(n) < plans[1].BytesIn {
			return
		}
		select {
		case <-failed:
		case <-time.After(time.Minute):
			t.Error("a conversion that has failed waits for one that has not")
		}
	}})
	if err != nil {
		t.Error(err)
	}
	<-failed
}

// Cancelled, all of them end and leave no hasher behind.
func TestPassIsCancelled(t *testing.T) {
	c := openCache(t)
	plans := variants(t, makeFolder(t, nil), many...)
	seats := step.NewMeeting(len(plans))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var all sync.WaitGroup
	for i, p := range plans {
		stage, err := c.NewStage()
		if err != nil {
			t.Fatal(err)
		}
		defer stage.Remove()
		all.Go(func() {
			_, err := p.Write(ctx, convert.WriteEnv{Cache: c, Stage: stage, Progress: func(int64) { cancel() }, Seat: seats[i]})
			if err == nil {
				t.Errorf("%s: went on", many[i])
			}
		})
	}
	all.Wait()
}

// A blob whose metadata changed, as when another folder that had a link to it is removed, is not hashed for the tensors in it: they are made again, and are what they were.
func TestReuseHashesNothing(t *testing.T) {
	dir, c := makeFolder(t, nil), openCache(t)
	first, err := writeTo(t, c, mustDecide(t, dir, many[0]), convert.WriteEnv{})
	if err != nil {
		t.Fatal(err)
	}
	blob, _, err := c.Blob(first[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(blob, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	var stats convert.Stats
	again, err := writeTo(t, c, mustDecide(t, dir, many[0]), convert.WriteEnv{Stats: &stats})
	if err != nil || !slices.Equal(first, again) || stats.Cache.Load() != 0 || stats.Source.Load() == 0 {
		t.Errorf("%d bytes of the cache were taken and %d of the source; %v", stats.Cache.Load(), stats.Source.Load(), err)
	}
	if _, _, ok := c.KnownBlob(first[0].Digest); !ok {
		t.Error("the blob that was written again is not known")
	}
}
