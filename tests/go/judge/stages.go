// What the tool does with a trace, stage by stage, with a verdict instead of output.

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"

	"internal/trace"
	"internal/trace/raw"
	"internal/trace/traceviewer"
)

type judgement struct {
	data   []byte
	events int
	parsed *parsedTrace
}

// judgeStages are the ways in which a trace can be refused.
var judgeStages = map[string]func(*judgement) error{
	"read":   (*judgement).readOrdered,
	"parsed": (*judgement).readParsed,
	"wire":   (*judgement).readWire,
	"tool":   (*judgement).open,
	"pages":  (*judgement).servePages,
}

// readOrdered is the ordered, validating reader alone: for traces of many millions of events.
func (j *judgement) readOrdered() error { return j.read(func(*trace.Event) {}) }

// readParsed is -d=parsed: the same, and every event as text.
func (j *judgement) readParsed() error { return j.read(func(ev *trace.Event) { _ = ev.String() }) }

func (j *judgement) read(use func(*trace.Event)) error {
	j.events = 0
	r, err := trace.NewReader(bytes.NewReader(j.data))
	if err != nil {
		return err
	}
	for {
		ev, err := r.ReadEvent()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		j.events++
		use(&ev)
	}
}

// readWire is -d=wire and what -d=footprint reads.
func (j *judgement) readWire() error {
	r, err := raw.NewReader(bytes.NewReader(j.data))
	if err != nil {
		return err
	}
	for {
		ev, err := r.ReadEvent()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		_ = ev.String()
	}
}

// open is what the tool does before it serves a page: read, summarize, split.
func (j *judgement) open() error {
	if j.parsed != nil {
		return nil
	}
	parsed, err := parseTrace(bytes.NewReader(j.data), int64(len(j.data)))
	if err != nil {
		return err
	}
	if parsed.err != nil {
		return fmt.Errorf("able to proceed, but: %w", parsed.err)
	}
	if _, err := splitTrace(parsed); err != nil {
		return err
	}
	j.parsed = parsed
	return nil
}

// judgePerKind bounds how many goroutines, tasks and regions get their pages looked at.
const judgePerKind = 6

// servePages asks the tool's own handlers for the pages of the web UI.
func (j *judgement) servePages() error {
	if err := j.open(); err != nil {
		return err
	}
	pages := j.handlers()
	for _, u := range j.urls() {
		w := httptest.NewRecorder()
		pages.ServeHTTP(w, httptest.NewRequest("GET", u, nil))
		body := w.Body.Bytes()
		if w.Code != http.StatusOK {
			return fmt.Errorf("%s: status %d: %s", u, w.Code, judgeShort(string(body)))
		}
		wantJSON := bytes.HasPrefix([]byte(u), []byte("/jsontrace")) || bytes.HasPrefix([]byte(u), []byte("/mmu?"))
		if wantJSON && !json.Valid(body) {
			return fmt.Errorf("%s: not JSON: %.200s", u, body)
		}
	}
	return nil
}

// handlers routes as the tool's main does. The pages that need graphviz are asked for raw.
func (j *judgement) handlers() http.Handler {
	p := j.parsed
	ranges := []traceviewer.Range{}
	mux := http.NewServeMux()
	mux.Handle("/", traceviewer.MainHandler([]traceviewer.View{{Type: traceviewer.ViewProc, Ranges: ranges}}))
	mux.Handle("/jsontrace", JSONTraceHandler(p))
	mux.HandleFunc("/goroutines", GoroutinesHandlerFunc(p.summary.Goroutines))
	mux.HandleFunc("/goroutine", GoroutineHandler(p.summary.Goroutines))
	mux.HandleFunc("/mmu", traceviewer.MMUHandlerFunc(ranges, func(f trace.UtilFlags) ([][]trace.MutatorUtil, error) {
		return trace.MutatorUtilizationV2(p.events, f), nil
	}))
	mux.HandleFunc("/io", traceviewer.SVGProfileHandlerFunc(pprofByGoroutine(computePprofIO(), p)))
	mux.HandleFunc("/block", traceviewer.SVGProfileHandlerFunc(pprofByGoroutine(computePprofBlock(), p)))
	mux.HandleFunc("/syscall", traceviewer.SVGProfileHandlerFunc(pprofByGoroutine(computePprofSyscall(), p)))
	mux.HandleFunc("/sched", traceviewer.SVGProfileHandlerFunc(pprofByGoroutine(computePprofSched(), p)))
	mux.HandleFunc("/regionio", traceviewer.SVGProfileHandlerFunc(pprofByRegion(computePprofIO(), p)))
	mux.HandleFunc("/regionblock", traceviewer.SVGProfileHandlerFunc(pprofByRegion(computePprofBlock(), p)))
	mux.HandleFunc("/regionsyscall", traceviewer.SVGProfileHandlerFunc(pprofByRegion(computePprofSyscall(), p)))
	mux.HandleFunc("/regionsched", traceviewer.SVGProfileHandlerFunc(pprofByRegion(computePprofSched(), p)))
	mux.HandleFunc("/userregions", UserRegionsHandlerFunc(p))
	mux.HandleFunc("/userregion", UserRegionHandlerFunc(p))
	mux.HandleFunc("/usertasks", UserTasksHandlerFunc(p))
	mux.HandleFunc("/usertask", UserTaskHandlerFunc(p))
	return mux
}

// judgeMostPerProc is how many processors a trace may have for the per-goroutine view of MMU, whose time grows with the
// square of that number.
const judgeMostPerProc = 32

func (j *judgement) procs() (most uint64) {
	for i := range j.parsed.events {
		if ev := &j.parsed.events[i]; ev.Kind() == trace.EventMetric && ev.Metric().Name == "/sched/gomaxprocs:threads" {
			most = max(most, ev.Metric().Value.Uint64())
		}
	}
	return most
}

func (j *judgement) urls() []string {
	urls := []string{
		"/", "/jsontrace?view=proc", "/jsontrace?view=thread", "/goroutines", "/usertasks", "/userregions", "/mmu",
		"/io?raw=1", "/block?raw=1", "/syscall?raw=1", "/sched?raw=1",
	}
	// The page's default choice, each of its boxes alone, and all of them.
	for _, flags := range []string{
		"system|stw|background|assist", "stw", "background", "assist", "sweep", "system|stw|background|assist|sweep|mut",
		"perProc|stw|background|assist|sweep",
	} {
		if strings.HasPrefix(flags, "perProc") && j.procs() > judgeMostPerProc {
			continue
		}
		urls = append(urls, "/mmu?mode=plot&flags="+url.QueryEscape(flags))
	}
	urls = append(urls, "/mmu?mode=details&window=1000000&flags="+url.QueryEscape("system|stw|background|assist"))

	sum := j.parsed.summary
	names := map[string]bool{}
	regions := map[string]bool{}
	for _, id := range judgeSpread(sum.Goroutines) {
		g := sum.Goroutines[id]
		urls = append(urls, fmt.Sprintf("/jsontrace?goid=%d", id))
		if !names[g.Name] {
			names[g.Name] = true
			urls = append(urls, "/goroutine?name="+url.QueryEscape(g.Name), "/block?raw=1&name="+url.QueryEscape(g.Name))
		}
		for _, r := range g.Regions {
			q := "type=" + url.QueryEscape(r.Name)
			if len(regions) < judgePerKind && !regions[q] {
				regions[q] = true
				urls = append(urls, "/userregion?"+q, "/regionblock?raw=1&"+q)
			}
		}
	}
	for _, id := range judgeSpread(sum.Tasks) {
		t := sum.Tasks[id]
		urls = append(urls, "/usertask?type="+url.QueryEscape(t.Name))
		// The tool has nothing to show for a task of which the trace holds neither begin, end nor log.
		if t.Start != nil || t.End != nil {
			urls = append(urls, fmt.Sprintf("/jsontrace?focustask=%d", id), fmt.Sprintf("/jsontrace?taskid=%d", id))
		}
	}
	return urls
}

// judgeSpread returns up to judgePerKind keys, spread evenly over the sorted ones.
func judgeSpread[K interface{ ~int64 | ~uint64 }, V any](m map[K]V) []K {
	var keys, kept []K
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	n := min(len(keys), judgePerKind)
	for i := range n {
		kept = append(kept, keys[i*len(keys)/n])
	}
	return kept
}
