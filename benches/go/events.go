// What an event of Go's own tracer costs: the counterpart of events.rs, which runs it. Prints one JSON object a line:
//
//	{"name", "procs", "events" an operation, "ns_off" and "ns_on" an operation with "_min" and "_max", "bytes" of trace an operation}
//
// A figure is the median of the rounds, which go untraced and traced by turns. It is CPU time, so that others on the machine
// don't count: of the one thread that does the work, or of the process where the work is a hand-over between goroutines (then
// the tracer's own goroutine is in it). The events are counted in the trace, not assumed.
//
// Usage: go run events.go [-procs N] [-rounds N] [-depth FRAMES]
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/trace"
	"sort"
	"syscall"
	"time"
	"unsafe"
)

type work struct {
	name string
	n    int
	// one says that a single thread does the work.
	one bool
	run func(n int)
}

var kept *[48]byte

func works() []work {
	ctx := context.Background()
	null, err := syscall.Open("/dev/null", syscall.O_RDONLY, 0)
	if err != nil {
		panic(err)
	}
	var b [1]byte
	return []work{
		{"log", 200_000, true, func(n int) {
			for range n {
				trace.Log(ctx, "category", "message")
			}
		}},
		{"region", 200_000, true, func(n int) {
			for range n {
				trace.WithRegion(ctx, "region", func() {})
			}
		}},
		{"read /dev/null", 100_000, true, func(n int) {
			for range n {
				syscall.Read(null, b[:])
			}
		}},
		{"alloc 48 B", 2_000_000, true, func(n int) {
			for range n {
				kept = new([48]byte)
			}
		}},
		{"yield", 200_000, false, func(n int) {
			for range n {
				runtime.Gosched()
			}
		}},
		{"channel ping-pong", 100_000, false, func(n int) {
			there, back := make(chan int), make(chan int)
			go func() {
				for v := range there {
					back <- v
				}
				close(back)
			}()
			for i := range n {
				there <- i
				<-back
			}
			close(there)
			<-back
		}},
	}
}

//go:noinline
func atDepth(depth int, f func()) {
	if depth <= 0 {
		f()
		return
	}
	atDepth(depth-1, f)
	runtime.KeepAlive(depth)
}

// cpuTime is the CPU time of the calling thread, or of the process.
func cpuTime(thread bool) time.Duration {
	clock := uintptr(2) // CLOCK_PROCESS_CPUTIME_ID
	if thread {
		clock = 3 // CLOCK_THREAD_CPUTIME_ID
	}
	var t syscall.Timespec
	if _, _, err := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clock, uintptr(unsafe.Pointer(&t)), 0); err != 0 {
		panic(err)
	}
	return time.Duration(t.Nano())
}

// timeIt returns nanoseconds an operation, after a twentieth of the work to warm up.
func timeIt(w work, depth int) (ns float64) {
	if w.one {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
	}
	atDepth(depth, func() {
		w.run(w.n / 20)
		start := cpuTime(w.one)
		w.run(w.n)
		ns = float64((cpuTime(w.one) - start).Nanoseconds()) / float64(w.n)
	})
	return ns
}

// arguments of each timed event of the format, behind its time; -1 is no timed event.
var arguments = [...]int{
	-1, -1, -1, -1, -1, -1, -1, -1, -1, 2, 2, 0, 3, 2, 3, 1, 2, 0, 0, 2, 2, 3, 2, 0, 0, 3,
	2, 0, 1, 2, 1, 1, 1, 2, 1, 1, 0, 1, 1, 1, 4, 2, 3, 3, 4, 2, 2, 3, 4, -1, -1, 3, -1,
}

// countEvents counts the timed events of a trace.
func countEvents(data []byte) (events int, err error) {
	const header, eventBatch, endOfGeneration = 16, 1, 52
	at := header
	next := func() uint64 {
		v, n := binary.Uvarint(data[at:])
		at += n
		return v
	}
	for at < len(data) {
		kind := data[at]
		at++
		if kind == endOfGeneration {
			continue
		}
		if kind != eventBatch {
			return 0, fmt.Errorf("a batch of kind %d", kind)
		}
		next() // generation
		next() // thread
		next() // time
		end := int(next())
		end += at
		// The tables and the clock are no events of the program's.
		if first := int(data[at]); first >= len(arguments) || arguments[first] < 0 {
			at = end
			continue
		}
		for at < end {
			event := int(data[at])
			if event >= len(arguments) || arguments[event] < 0 {
				return 0, fmt.Errorf("an event of kind %d", event)
			}
			at++
			for range arguments[event] + 1 {
				next()
			}
			events++
		}
	}
	return events, nil
}

// spread sorts the figures and returns their median and range.
func spread(v []float64) (median, least, most float64) {
	sort.Float64s(v)
	return v[len(v)/2], v[0], v[len(v)-1]
}

func main() {
	procs := flag.Int("procs", runtime.GOMAXPROCS(0), "GOMAXPROCS")
	rounds := flag.Int("rounds", 7, "rounds of each work")
	depth := flag.Int("depth", 15, "frames above the work")
	flag.Parse()
	runtime.GOMAXPROCS(*procs)
	out := json.NewEncoder(os.Stdout)
	for _, w := range works() {
		var off, on []float64
		var events, size float64
		for range *rounds {
			off = append(off, timeIt(w, *depth))
			var sink bytes.Buffer
			sink.Grow(w.n * 64)
			if err := trace.Start(&sink); err != nil {
				panic(err)
			}
			on = append(on, timeIt(w, *depth))
			trace.Stop()
			n, err := countEvents(sink.Bytes())
			if err != nil {
				panic(err)
			}
			operations := float64(w.n + w.n/20)
			events, size = float64(n)/operations, float64(sink.Len())/operations
		}
		result := map[string]any{"name": w.name, "procs": *procs, "events": events, "bytes": size}
		result["ns_off"], result["ns_off_min"], result["ns_off_max"] = spread(off)
		result["ns_on"], result["ns_on_min"], result["ns_on_max"] = spread(on)
		if err := out.Encode(result); err != nil {
			panic(err)
		}
	}
}
