// Counts the events of a trace with the reader of Go's own tool and says how long that took.
//
// It imports a package that only the standard library and its commands may import, so the benchmark builds it as if it
// stood among those commands (`go build -overlay`), without touching the toolchain.
package main

import (
	"fmt"
	"internal/trace"
	"io"
	"os"
	"time"
)

func main() {
	f, err := os.Open(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	start := time.Now()
	r, err := trace.NewReader(f)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	n := 0
	for {
		_, err := r.ReadEvent()
		if err == io.EOF {
			break
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		n++
	}
	fmt.Println(n, time.Since(start).Nanoseconds())
}
