//go:build go1.25

package main

import "internal/trace"

// judgeClosingSyncs is how many sync events follow the last generation; each generation begins with one.
const judgeClosingSyncs = 1

// judgeFrames calls f for each frame of s, leaf first.
func judgeFrames(s trace.Stack, f func(trace.StackFrame)) {
	for frame := range s.Frames() {
		f(frame)
	}
}
