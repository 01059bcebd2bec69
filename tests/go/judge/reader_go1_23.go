//go:build !go1.25

package main

import "internal/trace"

// judgeClosingSyncs is how many sync events follow the last generation; each generation begins with one.
const judgeClosingSyncs = 0

// judgeFrames calls f for each frame of s, leaf first. Until Go 1.24 a stack took a callback.
func judgeFrames(s trace.Stack, f func(trace.StackFrame)) {
	s.Frames(func(frame trace.StackFrame) bool {
		f(frame)
		return true
	})
}
