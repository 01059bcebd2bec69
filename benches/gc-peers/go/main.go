// The programs of gc-peers in Go, each as one would write it there. Prints what src/main.rs says.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	lruEntries = 1_000_000
	lruChains  = 1 << 20
	lruOps     = 4_000_000
	vecsLive   = 1 << 16
	vecsOps    = 2_000_000
	listNodes  = 1_000_000
	listRounds = 20
	widePlaces = 1 << 20
	wideOps    = 8_000_000
	strLive    = 1 << 16
	strOps     = 4_000_000
	batch      = 64
	tickDepth  = 7
	stop       = 20 * time.Microsecond
)

var (
	begin = time.Now()
	last  time.Duration
	stops [][2]time.Duration
)

// tick looks at the clock, and notes the gap if it is too long to be the program's own.
func tick() {
	now := time.Since(begin)
	if now-last >= stop {
		stops = append(stops, [2]time.Duration{now, now - last})
		now = time.Since(begin)
	}
	last = now
}

// skip says that what was done until now does not count.
func skip() { last = time.Since(begin) }

type rng uint64

func (r *rng) next() uint64 {
	x := uint64(*r)
	x ^= x << 13
	x ^= x >> 7
	x ^= x << 17
	*r = rng(x)
	return x >> 11
}

func newRng() *rng {
	r := rng(88172645463325252)
	return &r
}

type tree struct{ left, right *tree }

func build(depth int) *tree {
	if depth <= tickDepth {
		return small(depth)
	}
	tick()
	return &tree{build(depth - 1), build(depth - 1)}
}

func small(depth int) *tree {
	if depth == 0 {
		return &tree{}
	}
	return &tree{small(depth - 1), small(depth - 1)}
}

func (t *tree) count(depth int) uint64 {
	if depth <= tickDepth {
		return t.countSmall()
	}
	tick()
	return 1 + t.left.count(depth-1) + t.right.count(depth-1)
}

func (t *tree) countSmall() uint64 {
	if t.left == nil {
		return 1
	}
	return 1 + t.left.countSmall() + t.right.countSmall()
}

func temporaries(depth, n int) (sum uint64) {
	for i := range n {
		sum += build(depth).count(depth)
		if i%(1+(256>>depth)) == 0 {
			tick()
		}
	}
	return sum
}

func binaryTrees(depth int) uint64 {
	sum := build(depth + 1).count(depth + 1)
	long := build(depth)
	for d := 4; d <= depth; d += 2 {
		sum += temporaries(d, 1<<(depth-d+4))
	}
	return sum + long.count(depth)
}

func gcBench(depth int) uint64 {
	long := build(depth)
	var sum uint64
	for d := 4; d < depth; d += 2 {
		sum += temporaries(d, (2<<depth)/((2<<d)-1))
	}
	return sum + long.count(depth)
}

type entry struct {
	key                 uint64
	value               *uint64
	chain, newer, older *entry
}

type cache struct {
	table          []*entry
	newest, oldest *entry
	len            int
}

func (c *cache) unlink(e *entry) {
	if e.newer != nil {
		e.newer.older = e.older
	} else {
		c.newest = e.older
	}
	if e.older != nil {
		e.older.newer = e.newer
	} else {
		c.oldest = e.newer
	}
}

func (c *cache) link(e *entry) {
	e.newer = nil
	e.older = c.newest
	if c.newest != nil {
		c.newest.newer = e
	} else {
		c.oldest = e
	}
	c.newest = e
}

func newValue(v uint64) *uint64 { return &v }

func (c *cache) touch(key uint64) bool {
	head := &c.table[key%lruChains]
	for e := *head; e != nil; e = e.chain {
		if e.key == key {
			c.unlink(e)
			c.link(e)
			e.value = newValue(key)
			return true
		}
	}
	e := &entry{key: key, value: newValue(key), chain: *head}
	*head = e
	c.link(e)
	c.len++
	if c.len > lruEntries {
		victim := c.oldest
		c.unlink(victim)
		for at := &c.table[victim.key%lruChains]; *at != nil; at = &(*at).chain {
			if *at == victim {
				*at = victim.chain
				break
			}
		}
		c.len--
	}
	return false
}

func lru() (hits uint64) {
	c, r := &cache{table: make([]*entry, lruChains)}, newRng()
	skip()
	for i := range lruOps {
		if c.touch(r.next() % (lruEntries * 3 / 2)) {
			hits++
		}
		if i%batch == 0 {
			tick()
		}
	}
	return hits
}

func vecs() (sum uint64) {
	slots, r := make([]*[]*uint64, vecsLive), newRng()
	skip()
	for op := range uint64(vecsOps) {
		slot := r.next() % vecsLive
		leaves := new([]*uint64)
		n := 1 + r.next()%8
		for i := range n {
			*leaves = append(*leaves, newValue(op+i))
		}
		if old := slots[slot]; old != nil {
			for _, leaf := range *old {
				sum += *leaf
			}
		}
		slots[slot] = leaves
		if op%batch == 0 {
			tick()
		}
	}
	return sum
}

type node struct {
	next  *node
	value uint64
}

func lists() (sum uint64) {
	var old *node
	for round := range uint64(listRounds) {
		var list *node
		for i := range uint64(listNodes) {
			list = &node{list, i + round}
			if i%batch == 0 {
				tick()
			}
		}
		for _, at := range []*node{list, old} {
			for ; at != nil; at = at.next {
				sum += at.value
				if at.value%256 == 0 {
					tick()
				}
			}
		}
		old = list
	}
	return sum
}

func wide() (sum uint64) {
	array, r := make([]*uint64, widePlaces), newRng()
	for i := range array {
		array[i] = newValue(uint64(i))
	}
	skip()
	for op := range uint64(wideOps) {
		place := r.next() % widePlaces
		sum += *array[place]
		array[place] = newValue(op)
		if op%batch == 0 {
			tick()
		}
	}
	return sum
}

func texts() (sum uint64) {
	slots, r := make([]string, strLive), newRng()
	for i := range slots {
		slots[i] = strconv.Itoa(i)
	}
	skip()
	for op := range strOps {
		a, b := slots[r.next()%strLive], slots[r.next()%strLive]
		text := a[:min(len(a), 32)] + b[:min(len(b), 32)]
		sum += uint64(len(text)) + uint64(text[0])
		slots[r.next()%strLive] = text
		if op%batch == 0 {
			tick()
		}
	}
	return sum
}

func cpu() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

func peakKiB() string {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		panic(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			return strings.Fields(rest)[0]
		}
	}
	return "0"
}

func main() {
	program := os.Args[1]
	tick()
	stops = stops[:0]
	cpuBegin, wallBegin := cpu(), time.Now()
	var answer uint64
	switch program {
	case "lru":
		answer = lru()
	case "vecs":
		answer = vecs()
	case "lists":
		answer = lists()
	case "wide":
		answer = wide()
	case "strings":
		answer = texts()
	default:
		depth, err := strconv.Atoi(program[2:])
		if err != nil {
			panic(err)
		}
		if program[:2] == "bt" {
			answer = binaryTrees(depth)
		} else {
			answer = gcBench(depth)
		}
	}
	wall := time.Since(wallBegin).Nanoseconds()
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	fmt.Fprintln(out, answer, cpu()-cpuBegin, wall, peakKiB())
	for _, s := range stops {
		fmt.Fprintln(out, s[0].Nanoseconds(), s[1].Nanoseconds(), s[1].Nanoseconds())
	}
}
