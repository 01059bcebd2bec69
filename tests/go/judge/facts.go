// What a trace says, as Go's reader and summarizer understand it, for tests to assert on.

package main

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"internal/trace"
)

// judgeMost bounds each list of facts, so that a huge trace makes a big answer and not a boundless one.
const judgeMost = 50_000

// judgeFacts holds times in nanoseconds since the first event, and durations in nanoseconds.
type judgeFacts struct {
	Header      string                       `json:"header"`
	Bytes       int                          `json:"bytes"`
	Events      int                          `json:"events"`
	Generations int                          `json:"generations"`
	DurationNS  int64                        `json:"duration_ns"`
	Kinds       map[string]int               `json:"kinds"`
	Procs       int                          `json:"procs"`
	Threads     int                          `json:"threads"`
	Transitions map[string]int               `json:"transitions"`
	Goroutines  []judgeGoroutine             `json:"goroutines"`
	Creations   []judgeCreation              `json:"creations"`
	Waits       []judgeWait                  `json:"waits"`
	Wakes       []judgeWake                  `json:"wakes"`
	Metrics     map[string]*judgeMetricFacts `json:"metrics"`
	Ranges      []judgeRange                 `json:"ranges"`
	Tasks       []judgeTask                  `json:"tasks"`
	Regions     []judgeRegion                `json:"regions"`
	Logs        []judgeLog                   `json:"logs"`
	Labels      []judgeLabel                 `json:"labels"`
	Samples     []judgeSample                `json:"samples"`
}

type judgeGoroutine struct {
	ID             uint64           `json:"id"`
	Name           string           `json:"name"`
	CreatedNS      int64            `json:"created_ns"`
	EndNS          *int64           `json:"end_ns"`
	TotalNS        int64            `json:"total_ns"`
	ExecNS         int64            `json:"exec_ns"`
	SchedWaitNS    int64            `json:"sched_wait_ns"`
	SyscallNS      int64            `json:"syscall_ns"`
	SyscallBlockNS int64            `json:"syscall_block_ns"`
	BlockNS        map[string]int64 `json:"block_ns"`
	RangeNS        map[string]int64 `json:"range_ns"`
}

// judgeCreation is a goroutine's creation, with the stack of the creator (if there is one).
type judgeCreation struct {
	ID      uint64   `json:"id"`
	Creator uint64   `json:"creator"`
	TimeNS  int64    `json:"time_ns"`
	Stack   []string `json:"stack"`
}

// judgeWait sums up the stays of one goroutine in one state, entered from running at one stack.
type judgeWait struct {
	Goroutine uint64   `json:"goroutine"`
	State     string   `json:"state"` // "Waiting", "Runnable" or "Syscall"
	Reason    string   `json:"reason"`
	Stack     []string `json:"stack"`
	Count     int      `json:"count"`
	TotalNS   int64    `json:"total_ns"`
	MaxNS     int64    `json:"max_ns"`
}

// judgeWake counts who made whom runnable. From 0 is nobody, From == To a goroutine that woke by itself.
type judgeWake struct {
	From  uint64   `json:"from"`
	To    uint64   `json:"to"`
	Stack []string `json:"stack"`
	Count int      `json:"count"`
}

type judgeMetricFacts struct {
	Count  int         `json:"count"`
	Min    uint64      `json:"min"`
	Max    uint64      `json:"max"`
	Last   uint64      `json:"last"`
	Points [][2]uint64 `json:"points"` // time, value
}

// judgeRange is a span such as a GC phase. Begin or end is missing where the trace does not hold it.
type judgeRange struct {
	Name    string            `json:"name"`
	Scope   string            `json:"scope"` // "Goroutine", "Proc" or "None", and the id
	ID      uint64            `json:"id"`
	BeginNS *int64            `json:"begin_ns"`
	EndNS   *int64            `json:"end_ns"`
	Stack   []string          `json:"stack"`
	Values  map[string]uint64 `json:"values"`
}

type judgeTask struct {
	ID         uint64   `json:"id"`
	Parent     uint64   `json:"parent"`
	Name       string   `json:"name"`
	BeginNS    *int64   `json:"begin_ns"`
	EndNS      *int64   `json:"end_ns"`
	Goroutines []uint64 `json:"goroutines"`
}

type judgeRegion struct {
	Goroutine uint64   `json:"goroutine"`
	Task      uint64   `json:"task"`
	Name      string   `json:"name"`
	BeginNS   *int64   `json:"begin_ns"`
	EndNS     *int64   `json:"end_ns"`
	Stack     []string `json:"stack"`
}

type judgeLog struct {
	TimeNS    int64    `json:"time_ns"`
	Goroutine uint64   `json:"goroutine"`
	Task      uint64   `json:"task"`
	Category  string   `json:"category"`
	Message   string   `json:"message"`
	Stack     []string `json:"stack"`
}

type judgeLabel struct {
	TimeNS    int64  `json:"time_ns"`
	Goroutine uint64 `json:"goroutine"`
	Label     string `json:"label"`
}

type judgeSample struct {
	Goroutine uint64   `json:"goroutine"`
	Stack     []string `json:"stack"`
	Count     int      `json:"count"`
}

// judgeID makes "none", which the reader says as -1, a 0.
func judgeID[T ~int64](id T) uint64 {
	if id < 0 {
		return 0
	}
	return uint64(id)
}

// judgeTaskID makes "no task" and "the background task" a 0.
func judgeTaskID(id trace.TaskID) uint64 {
	if id == trace.NoTask || id == trace.BackgroundTask {
		return 0
	}
	return uint64(id)
}

// judgeStack is a stack as "function file:line", leaf first.
func judgeStack(s trace.Stack) []string {
	frames := []string{}
	judgeFrames(s, func(f trace.StackFrame) {
		frames = append(frames, f.Func+" "+f.File+":"+strconv.FormatUint(f.Line, 10))
	})
	return frames
}

type judgeCollector struct {
	facts  *judgeFacts
	start  trace.Time
	procs  map[trace.ProcID]bool
	ms     map[trace.ThreadID]bool
	waits  map[string]*judgeWait
	wakes  map[string]*judgeWake
	sample map[string]*judgeSample
	since  map[trace.GoID]judgeStay
	open   map[string]int // index into facts.Ranges
}

// judgeStay is a goroutine's stay off its processor that has not ended yet.
type judgeStay struct {
	wait *judgeWait
	from trace.Time
}

func (j *judgement) facts() (*judgeFacts, error) {
	if err := j.open(); err != nil {
		return nil, err
	}
	f := &judgeFacts{
		Header: strings.TrimRight(string(j.data[:16]), "\x00"), Bytes: len(j.data), Events: len(j.parsed.events),
		Kinds: map[string]int{}, Transitions: map[string]int{}, Metrics: map[string]*judgeMetricFacts{},
		Goroutines: []judgeGoroutine{}, Creations: []judgeCreation{}, Ranges: []judgeRange{}, Tasks: []judgeTask{},
		Regions: []judgeRegion{}, Logs: []judgeLog{}, Labels: []judgeLabel{},
	}
	start := j.parsed.startTime()
	f.DurationNS = int64(j.parsed.endTime().Sub(start))
	c := &judgeCollector{
		facts: f, start: start, procs: map[trace.ProcID]bool{}, ms: map[trace.ThreadID]bool{},
		waits: map[string]*judgeWait{}, wakes: map[string]*judgeWake{}, sample: map[string]*judgeSample{},
		since: map[trace.GoID]judgeStay{}, open: map[string]int{},
	}
	for i := range j.parsed.events {
		c.event(&j.parsed.events[i])
	}
	f.Procs, f.Threads = len(c.procs), len(c.ms)
	f.Generations = f.Kinds["Sync"] - judgeClosingSyncs
	f.Waits = judgeSorted(c.waits, func(a, b *judgeWait) int { return cmp.Compare(b.TotalNS, a.TotalNS) })
	f.Wakes = judgeSorted(c.wakes, func(a, b *judgeWake) int { return cmp.Compare(b.Count, a.Count) })
	f.Samples = judgeSorted(c.sample, func(a, b *judgeSample) int { return cmp.Compare(b.Count, a.Count) })
	j.summaryFacts(f, start)
	return f, nil
}

// judgeSorted lists the values of m by order, equal ones by key, so that the answer is the same each time.
func judgeSorted[V any](m map[string]*V, order func(a, b *V) int) []V {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	slices.SortStableFunc(keys, func(a, b string) int { return order(m[a], m[b]) })
	list := []V{}
	for _, k := range keys[:min(len(keys), judgeMost)] {
		list = append(list, *m[k])
	}
	return list
}

func judgeAppend[T any](list *[]T, v T) {
	if len(*list) < judgeMost {
		*list = append(*list, v)
	}
}

func (c *judgeCollector) ns(t trace.Time) int64 { return int64(t.Sub(c.start)) }

func (c *judgeCollector) event(ev *trace.Event) {
	c.facts.Kinds[ev.Kind().String()]++
	if p := ev.Proc(); p != trace.NoProc {
		c.procs[p] = true
	}
	if m := ev.Thread(); m != trace.NoThread {
		c.ms[m] = true
	}
	now := c.ns(ev.Time())
	switch ev.Kind() {
	case trace.EventStateTransition:
		c.transition(ev)
	case trace.EventMetric:
		m := ev.Metric()
		if m.Value.Kind() != trace.ValueUint64 {
			return
		}
		v := m.Value.Uint64()
		s := c.facts.Metrics[m.Name]
		if s == nil {
			s = &judgeMetricFacts{Min: v, Max: v, Points: [][2]uint64{}}
			c.facts.Metrics[m.Name] = s
		}
		s.Count++
		s.Min, s.Max, s.Last = min(s.Min, v), max(s.Max, v), v
		judgeAppend(&s.Points, [2]uint64{uint64(now), v})
	case trace.EventRangeBegin, trace.EventRangeActive, trace.EventRangeEnd:
		c.rangeEvent(ev)
	case trace.EventLog:
		l := ev.Log()
		judgeAppend(&c.facts.Logs, judgeLog{
			TimeNS: now, Goroutine: judgeID(ev.Goroutine()), Task: judgeTaskID(l.Task),
			Category: l.Category, Message: l.Message, Stack: judgeStack(ev.Stack()),
		})
	case trace.EventLabel:
		l := ev.Label()
		if l.Resource.Kind == trace.ResourceGoroutine {
			judgeAppend(&c.facts.Labels, judgeLabel{now, judgeID(l.Resource.Goroutine()), l.Label})
		}
	case trace.EventStackSample:
		stack, g := judgeStack(ev.Stack()), judgeID(ev.Goroutine())
		key := strconv.FormatUint(g, 10) + " " + strings.Join(stack, "\n")
		if c.sample[key] == nil {
			c.sample[key] = &judgeSample{Goroutine: g, Stack: stack}
		}
		c.sample[key].Count++
	}
}

func (c *judgeCollector) transition(ev *trace.Event) {
	st := ev.StateTransition()
	if st.Resource.Kind != trace.ResourceGoroutine {
		from, to := st.Proc()
		c.facts.Transitions["Proc "+from.String()+"->"+to.String()]++
		return
	}
	from, to := st.Goroutine()
	g := st.Resource.Goroutine()
	c.facts.Transitions["Go "+from.String()+"->"+to.String()]++
	if from == trace.GoNotExist && to != trace.GoNotExist {
		judgeAppend(&c.facts.Creations, judgeCreation{judgeID(g), judgeID(ev.Goroutine()), c.ns(ev.Time()), judgeStack(ev.Stack())})
	}
	if from == trace.GoWaiting && to == trace.GoRunnable {
		waker, stack := judgeID(ev.Goroutine()), judgeStack(ev.Stack())
		key := strconv.FormatUint(waker, 10) + " " + strconv.FormatUint(judgeID(g), 10) + " " + strings.Join(stack, "\n")
		if c.wakes[key] == nil {
			c.wakes[key] = &judgeWake{From: waker, To: judgeID(g), Stack: stack}
		}
		c.wakes[key].Count++
	}
	if from == to {
		return // a status at the start of a generation
	}
	if stay, ok := c.since[g]; ok {
		delete(c.since, g)
		d := int64(ev.Time().Sub(stay.from))
		stay.wait.Count++
		stay.wait.TotalNS += d
		stay.wait.MaxNS = max(stay.wait.MaxNS, d)
	}
	if from == trace.GoRunning && to != trace.GoNotExist {
		stack := judgeStack(st.Stack)
		key := strings.Join([]string{strconv.FormatUint(judgeID(g), 10), to.String(), st.Reason, strings.Join(stack, "\n")}, "\x00")
		if c.waits[key] == nil {
			c.waits[key] = &judgeWait{Goroutine: judgeID(g), State: to.String(), Reason: st.Reason, Stack: stack}
		}
		c.since[g] = judgeStay{c.waits[key], ev.Time()}
	}
}

func (c *judgeCollector) rangeEvent(ev *trace.Event) {
	r := ev.Range()
	now := c.ns(ev.Time())
	out := judgeRange{Name: r.Name, Scope: r.Scope.Kind.String(), Values: map[string]uint64{}, Stack: judgeStack(ev.Stack())}
	switch r.Scope.Kind {
	case trace.ResourceGoroutine:
		out.ID = judgeID(r.Scope.Goroutine())
	case trace.ResourceProc:
		out.ID = judgeID(r.Scope.Proc())
	}
	key := out.Scope + strconv.FormatUint(out.ID, 10) + " " + out.Name
	i, isOpen := c.open[key]
	switch ev.Kind() {
	case trace.EventRangeBegin:
		out.BeginNS = &now
		c.open[key] = len(c.facts.Ranges)
		judgeAppend(&c.facts.Ranges, out)
	case trace.EventRangeActive:
		if !isOpen {
			c.open[key] = len(c.facts.Ranges)
			judgeAppend(&c.facts.Ranges, out)
		}
	case trace.EventRangeEnd:
		delete(c.open, key)
		for _, a := range ev.RangeAttributes() {
			if a.Value.Kind() == trace.ValueUint64 {
				out.Values[a.Name] = a.Value.Uint64()
			}
		}
		if isOpen && i < len(c.facts.Ranges) {
			c.facts.Ranges[i].EndNS, c.facts.Ranges[i].Values = &now, out.Values
		} else {
			out.EndNS = &now
			judgeAppend(&c.facts.Ranges, out)
		}
	}
}

// summaryFacts adds what the tool's own summarizer found out.
func (j *judgement) summaryFacts(f *judgeFacts, start trace.Time) {
	sum := j.parsed.summary
	at := func(ev *trace.Event) *int64 {
		if ev == nil {
			return nil
		}
		t := int64(ev.Time().Sub(start))
		return &t
	}
	for _, g := range sum.Goroutines {
		out := judgeGoroutine{
			ID: judgeID(g.ID), Name: g.Name, CreatedNS: int64(g.CreationTime.Sub(start)), TotalNS: int64(g.TotalTime),
			ExecNS: int64(g.ExecTime), SchedWaitNS: int64(g.SchedWaitTime), SyscallNS: int64(g.SyscallTime),
			SyscallBlockNS: int64(g.SyscallBlockTime), BlockNS: map[string]int64{}, RangeNS: map[string]int64{},
		}
		for reason, d := range g.BlockTimeByReason {
			out.BlockNS[reason] = int64(d)
		}
		for name, d := range g.RangeTime {
			out.RangeNS[name] = int64(d)
		}
		if g.EndTime != 0 {
			end := int64(g.EndTime.Sub(start))
			out.EndNS = &end
		}
		f.Goroutines = append(f.Goroutines, out)
		for _, r := range g.Regions {
			region := judgeRegion{
				Goroutine: judgeID(g.ID), Task: judgeTaskID(r.TaskID), Name: r.Name, BeginNS: at(r.Start), EndNS: at(r.End), Stack: []string{},
			}
			if r.Start != nil {
				region.Stack = judgeStack(r.Start.Stack())
			}
			judgeAppend(&f.Regions, region)
		}
	}
	for _, t := range sum.Tasks {
		out := judgeTask{ID: judgeTaskID(t.ID), Name: t.Name, BeginNS: at(t.Start), EndNS: at(t.End), Goroutines: []uint64{}}
		if t.Parent != nil {
			out.Parent = judgeTaskID(t.Parent.ID)
		}
		for g := range t.Goroutines {
			out.Goroutines = append(out.Goroutines, judgeID(g))
		}
		slices.Sort(out.Goroutines)
		judgeAppend(&f.Tasks, out)
	}
	slices.SortFunc(f.Goroutines, func(a, b judgeGoroutine) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(f.Tasks, func(a, b judgeTask) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortStableFunc(f.Regions, func(a, b judgeRegion) int { return cmp.Compare(a.Goroutine, b.Goroutine) })
}
