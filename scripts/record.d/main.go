// Record draws what scripts/demo prints, at the times when it prints it; see
// scripts/record, which calls it. It reads what comes from a terminal and
// writes an animated SVG.
package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

// What the picture shows as typed, by root.
const (
	prompt  = "# "
	command = "scripts/demo"
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "record:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	chunks, err := listen(in)
	if err != nil {
		return err
	}
	lines, err := interpret(chunks)
	if err != nil {
		return err
	}
	_, err = io.WriteString(out, draw(lines, chunks[len(chunks)-1].at))
	return err
}

// chunk is what was read at once, at a time since the beginning.
type chunk struct {
	at   time.Duration
	data string
}

// listen reads to the end.
func listen(in io.Reader) (all []chunk, err error) {
	began := time.Now()
	buf := make([]byte, 1<<16)
	for {
		n, err := in.Read(buf)
		if n > 0 {
			all = append(all, chunk{time.Since(began), string(buf[:n])})
		}
		switch {
		case err == io.EOF && len(all) == 0:
			return nil, fmt.Errorf("nothing was printed")
		case err == io.EOF:
			return all, nil
		case err != nil:
			return nil, err
		}
	}
}
