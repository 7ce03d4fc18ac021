package forward

import (
	"io"
	"sync"
	"testing"
)

// Each benchmark has the same work without the forwarder beside it.
func direct(b *testing.B, e *farEnd) string { return e.Addr().String() }

func forwarded(b *testing.B, e *farEnd) string { return serving(b, patient(), e.dial).addr }

// BenchmarkGreeting is a client's connect, its server's first line, and close.
func BenchmarkGreeting(b *testing.B) {
	const greeting = "220 ready\r\n"
	for name, way := range map[string]func(*testing.B, *farEnd) string{"direct": direct, "forwarded": forwarded} {
		b.Run(name, func(b *testing.B) {
			addr := way(b, answering(b, "tcp", func(c Stream) { _, _ = io.WriteString(c, greeting) }))
			line := make([]byte, len(greeting))
			for b.Loop() {
				c := must(dialTCP(addr))
				if _, err := io.ReadFull(c, line); err != nil {
					b.Fatal(err)
				}
				c.Close()
			}
		})
	}
}

// BenchmarkReply is a line and its answer, in a session that stays.
func BenchmarkReply(b *testing.B) {
	for name, way := range map[string]func(*testing.B, *farEnd) string{"direct": direct, "forwarded": forwarded} {
		b.Run(name, func(b *testing.B) {
			c := must(dialTCP(way(b, answering(b, "tcp", echoes))))
			defer c.Close()
			says(b, c, "220 far\r\n")
			for b.Loop() {
				asks(b, c, "NOOP\r\n")
			}
		})
	}
}

// BenchmarkHerd is 500 clients that come at once, until all are greeted and
// have left.
func BenchmarkHerd(b *testing.B) {
	for name, way := range map[string]func(*testing.B, *farEnd) string{"direct": direct, "forwarded": forwarded} {
		b.Run(name, func(b *testing.B) {
			addr := way(b, answering(b, "tcp", echoes))
			for b.Loop() {
				var clients sync.WaitGroup
				for range 500 {
					clients.Go(func() {
						c, err := dialTCP(addr)
						if err == nil {
							_, err = io.ReadFull(c, make([]byte, 9))
							c.Close()
						}
						if err != nil {
							b.Error(err)
						}
					})
				}
				clients.Wait()
			}
		})
	}
}

// BenchmarkBulk is the way of one MiB to the far end.
func BenchmarkBulk(b *testing.B) {
	block := make([]byte, 1<<20)
	for name, way := range map[string]func(*testing.B, *farEnd) string{"direct": direct, "forwarded": forwarded} {
		b.Run(name, func(b *testing.B) {
			addr := way(b, answering(b, "tcp", func(c Stream) {
				_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, 128<<10))
			}))
			c := must(dialTCP(addr))
			defer c.Close()
			b.SetBytes(int64(len(block)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Write(block); err != nil {
					b.Fatal(err)
				}
			}
			_ = c.CloseWrite()
			_, _ = io.Copy(io.Discard, c) // ends when the far end has read it all
		})
	}
}
