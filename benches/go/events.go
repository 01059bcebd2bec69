// What an event of Go's own tracer costs: the counterpart of events.rs, which runs it. Prints one JSON object a line:
// {"name", "events" an operation, "ns_off" and "ns_on" an operation, "bytes" of trace an operation}.
//
// Each figure is the median of 7 rounds of CPU time of the one thread that does the work, below 15 frames.
package main

import (
	"context"
	"encoding/json"
	"os"
	"runtime"
	"runtime/trace"
	"sort"
	"syscall"
	"time"
	"unsafe"
)

const rounds = 7

type countingWriter struct{ n int64 }

func (w *countingWriter) Write(b []byte) (int, error) {
	w.n += int64(len(b))
	return len(b), nil
}

type work struct {
	name   string
	events float64
	n      int
	run    func(n int)
}

//go:noinline
func atDepth(depth int, f func()) {
	if depth == 0 {
		f()
		return
	}
	atDepth(depth-1, f)
	runtime.KeepAlive(depth)
}

// cpuTime is the CPU time of the calling thread.
func cpuTime() time.Duration {
	const threadCPUTime = 3 // CLOCK_THREAD_CPUTIME_ID
	var t syscall.Timespec
	if _, _, err := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, threadCPUTime, uintptr(unsafe.Pointer(&t)), 0); err != 0 {
		panic(err)
	}
	return time.Duration(t.Nano())
}

func timeIt(w work, depth int) float64 {
	var took time.Duration
	atDepth(depth, func() {
		w.run(w.n / 20)
		t := cpuTime()
		w.run(w.n)
		took = cpuTime() - t
	})
	return float64(took.Nanoseconds()) / float64(w.n)
}

func median(v []float64) float64 {
	sort.Float64s(v)
	return v[len(v)/2]
}

func main() {
	runtime.LockOSThread()
	ctx := context.Background()
	null, err := syscall.Open("/dev/null", syscall.O_RDONLY, 0)
	if err != nil {
		panic(err)
	}
	var b [1]byte
	works := []work{
		{"log", 1, 200000, func(n int) {
			for i := 0; i < n; i++ {
				trace.Log(ctx, "category", "message")
			}
		}},
		{"region", 2, 200000, func(n int) {
			for i := 0; i < n; i++ {
				trace.WithRegion(ctx, "region", func() {})
			}
		}},
		{"read /dev/null", 2, 100000, func(n int) {
			for i := 0; i < n; i++ {
				syscall.Read(null, b[:])
			}
		}},
	}
	out := json.NewEncoder(os.Stdout)
	for _, w := range works {
		var off, on []float64
		var bytes float64
		for r := 0; r < rounds; r++ {
			off = append(off, timeIt(w, 15))
			sink := &countingWriter{}
			if err := trace.Start(sink); err != nil {
				panic(err)
			}
			on = append(on, timeIt(w, 15))
			trace.Stop()
			bytes = float64(sink.n) / (float64(w.n) * 1.05)
		}
		out.Encode(map[string]any{
			"name": w.name, "events": w.events, "ns_off": median(off), "ns_on": median(on), "bytes": bytes,
		})
	}
}
