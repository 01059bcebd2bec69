// A hook in the real `go tool trace`: it judges many traces in one process.
//
// The test support lays the files of this directory over GOROOT/src/cmd/trace (go build -overlay), so that the program
// is Go's own tool with one more way in. Starting the tool once for each of thousands of traces would take hours; here
// a request is a line of JSON on stdin and its verdict a line of JSON on stdout, in the same order. Every check calls
// the functions that the tool itself calls; nothing here knows the trace format.

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"runtime/debug"
	"strings"
	"time"
)

// judgeRequest asks for a verdict on one trace: a file, or the byte ranges of a file put one after the other
// (a window is the header and some generations).
type judgeRequest struct {
	Path   string     `json:"path"`
	Ranges [][2]int64 `json:"ranges"`
	// Stages to run, in this order: see judgeStages.
	Stages []string `json:"stages"`
	// Facts asks for what the trace says, beside the verdict.
	Facts bool `json:"facts"`
}

type judgeVerdict struct {
	// Stage is where the trace was refused; empty if it was accepted.
	Stage string `json:"stage"`
	// Error is the reader's own words.
	Error string `json:"error"`
	// Panic says that the tool died rather than refused.
	Panic  bool        `json:"panic"`
	Events int         `json:"events"`
	NS     int64       `json:"ns"`
	Facts  *judgeFacts `json:"facts,omitempty"`
}

func init() {
	if os.Getenv("EXECTRACE_JUDGE") == "" {
		return
	}
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := bufio.NewWriter(os.Stdout)
	enc := json.NewEncoder(out)
	for {
		line, err := in.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			var req judgeRequest
			var v judgeVerdict
			if err := json.Unmarshal(line, &req); err != nil {
				v = judgeVerdict{Stage: "request", Error: err.Error()}
			} else {
				v = judgeOne(&req)
			}
			if err := enc.Encode(&v); err != nil {
				fmt.Fprintln(os.Stderr, "writing a verdict:", err)
				os.Exit(1)
			}
			out.Flush()
		}
		if err == io.EOF {
			os.Exit(0)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "reading a request:", err)
			os.Exit(1)
		}
	}
}

func judgeOne(req *judgeRequest) (v judgeVerdict) {
	start := time.Now()
	defer func() { v.NS = time.Since(start).Nanoseconds() }()
	data, err := judgeLoad(req)
	if err != nil {
		return judgeVerdict{Stage: "load", Error: err.Error()}
	}
	j := &judgement{data: data}
	for _, name := range req.Stages {
		stage, ok := judgeStages[name]
		if !ok {
			return judgeVerdict{Stage: "request", Error: "unknown stage " + name}
		}
		if err, panicked := judgeGuarded(func() error { return stage(j) }); err != nil {
			return judgeVerdict{Stage: name, Error: judgeShort(err.Error()), Panic: panicked, Events: j.events}
		}
	}
	v.Events = j.events
	if req.Facts {
		err, panicked := judgeGuarded(func() (err error) { v.Facts, err = j.facts(); return err })
		if err != nil {
			v.Stage, v.Error, v.Panic = "facts", judgeShort(err.Error()), panicked
		}
	}
	return v
}

func judgeLoad(req *judgeRequest) ([]byte, error) {
	if len(req.Ranges) == 0 {
		return os.ReadFile(req.Path)
	}
	f, err := os.Open(req.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var data []byte
	for _, r := range req.Ranges {
		part := make([]byte, r[1]-r[0])
		if _, err := f.ReadAt(part, r[0]); err != nil {
			return nil, err
		}
		data = append(data, part...)
	}
	return data, nil
}

// judgeGuarded runs one stage. A panic is a verdict too, and so is a word in the log: the tool answers a request that
// it can't serve with an empty page and a line there.
func judgeGuarded(f func() error) (err error, panicked bool) {
	var words bytes.Buffer
	log.SetOutput(&words)
	defer log.SetOutput(os.Stderr)
	defer func() {
		if r := recover(); r != nil {
			err, panicked = fmt.Errorf("panic: %v\n%s", r, judgeWhere(string(debug.Stack()))), true
		} else if err == nil && words.Len() > 0 {
			err = fmt.Errorf("log: %s", words.String())
		}
	}()
	return f(), false
}

// judgeWhere keeps the lines of a panic's stack that name the reader and the tool.
func judgeWhere(stack string) string {
	var kept []string
	for _, line := range strings.Split(stack, "\n") {
		line = strings.TrimSpace(line)
		if strings.Contains(line, "/trace") && strings.Contains(line, ".go:") && !strings.Contains(line, "exectrace_") {
			kept = append(kept, line[strings.LastIndex(line, "/src/")+1:])
		}
	}
	return strings.Join(kept[:min(len(kept), 6)], "\n")
}

// judgeShort cuts the dump of all states that follows some errors.
func judgeShort(s string) string {
	const most = 4000
	if len(s) > most {
		return s[:most] + " ..."
	}
	return s
}
