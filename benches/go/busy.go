// A program that keeps a tracer busy: goroutines that hand each other messages, take locks, talk over sockets, make
// garbage, and tell of tasks and regions. `go run busy.go -o FILE -d 9s` writes its trace.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/trace"
	"sync"
	"time"
)

var keep sync.Map

func messages(stop <-chan struct{}) {
	a, b := make(chan int), make(chan int)
	go func() {
		for v := range a {
			b <- v + 1
		}
		close(b)
	}()
	defer close(a)
	for v := 0; ; {
		select {
		case <-stop:
			return
		case a <- v:
			v = <-b
		}
	}
}

func locks(stop <-chan struct{}, mu *sync.Mutex, shared map[int]int) {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		mu.Lock()
		shared[i%64]++
		mu.Unlock()
		if i%100 == 0 {
			time.Sleep(50 * time.Microsecond)
		}
	}
}

func garbage(stop <-chan struct{}) {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		list := make([][]byte, 1000)
		for j := range list {
			list[j] = make([]byte, 16+(i*j)%512)
		}
		keep.Store(i%32, list)
		time.Sleep(time.Millisecond)
	}
}

func tasks(stop <-chan struct{}) {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		ctx, task := trace.NewTask(context.Background(), fmt.Sprint("job ", i%5))
		var wg sync.WaitGroup
		for part := range 4 {
			wg.Go(func() {
				defer trace.StartRegion(ctx, "part").End()
				trace.Log(ctx, "part", fmt.Sprint(part))
			})
		}
		wg.Wait()
		task.End()
		time.Sleep(time.Millisecond)
	}
}

func sockets(stop <-chan struct{}) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(c, c)
				c.Close()
			}()
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return
	}
	defer c.Close()
	buf := make([]byte, 64)
	for {
		select {
		case <-stop:
			return
		default:
		}
		if _, err := c.Write(buf); err != nil {
			return
		}
		if _, err := io.ReadFull(c, buf); err != nil {
			return
		}
	}
}

func main() {
	out := flag.String("o", "busy.trace", "the trace")
	d := flag.Duration("d", 9*time.Second, "how long")
	flag.Parse()
	f, err := os.Create(*out)
	if err != nil {
		panic(err)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	if err := trace.Start(w); err != nil {
		panic(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	shared := map[int]int{}
	for range 6 {
		wg.Go(func() { messages(stop) })
		wg.Go(func() { locks(stop, &mu, shared) })
	}
	wg.Go(func() { garbage(stop) })
	wg.Go(func() { tasks(stop) })
	wg.Go(func() { sockets(stop) })
	time.Sleep(*d)
	close(stop)
	wg.Wait()
	trace.Stop()
	if err := w.Flush(); err != nil {
		panic(err)
	}
	if err := f.Close(); err != nil {
		panic(err)
	}
}
