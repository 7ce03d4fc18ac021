package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/smtp"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// startSink runs a sink until stop is called, which returns what run did.
func startSink(t *testing.T, args ...string) (address string, lines *bufio.Scanner, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, args, w, io.Discard)
		w.Close()
		ended <- err
	}()
	t.Cleanup(func() { cancel(); r.Close() })
	lines = bufio.NewScanner(r)
	if !lines.Scan() {
		t.Fatalf("no address on stdout: %v", <-ended)
	}
	return lines.Text(), lines, func() error { cancel(); return <-ended }
}

// filesIn returns the contents of all files in dir, by name.
func filesIn(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = string(b)
	}
	return all
}

// send returns once the mail was answered.
func send(address, mail string) error {
	return smtp.SendMail(address, nil, "me@example.com", []string{"you@example.com", "her@example.com"}, []byte(mail))
}

func TestWhatWasAnswered250HasArrivedByteForByte(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made by the sink")
	address, _, _ := startSink(t, "--dir", dir, "--quiet")
	mails := []string{
		"Subject: dots\r\n\r\n.\r\n..\r\n.three\r\n",
		"Subject: long\r\n\r\n" + strings.Repeat("x", 100_000) + "\r\n",
		"Subject: 8 bit\r\n\r\n\xff\x00\xe4\r\n",
	}
	for i, mail := range mails {
		if err := send(address, mail); err != nil {
			t.Fatalf("mail %d: %v", i, err)
		}
		got := filesIn(t, dir)
		if len(got) != i+1 {
			t.Fatalf("%d files after %d mails", len(got), i+1)
		}
		found := false
		for name, text := range got {
			found = found || text == mail && strings.HasSuffix(name, ".eml")
		}
		if !found {
			t.Errorf("mail %d is not among the files", i)
		}
	}
}

func TestAMailThatCannotBeKeptIsNotAnswered250(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mails")
	address, _, _ := startSink(t, "--dir", dir)
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	err := send(address, "Subject: lost\r\n\r\n\r\n")
	if reply, ok := err.(*textproto.Error); !ok || reply.Code != 451 {
		t.Errorf("answered %v, want 451", err)
	}
}

func TestTheEndLeavesNothingOfAnUnfinishedMail(t *testing.T) {
	dir := t.TempDir()
	address, _, stop := startSink(t, "--dir", dir)
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	text := textproto.NewConn(c)
	for _, command := range []string{"", "HELO me", "MAIL FROM:<>", "RCPT TO:<you@example.com>", "DATA"} {
		if command != "" {
			if err := text.PrintfLine("%s", command); err != nil {
				t.Fatal(err)
			}
		}
		if code, line, err := text.ReadResponse(0); err != nil || code >= 400 {
			t.Fatalf("%q: %d %s (%v)", command, code, line, err)
		}
	}
	if err := text.PrintfLine("Subject: half"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); len(filesIn(t, dir)) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the mail is not being written")
		}
	}
	for name := range filesIn(t, dir) {
		if !strings.HasPrefix(name, ".") {
			t.Errorf("an unfinished mail is called %s", name)
		}
	}
	if err := stop(); err != nil {
		t.Errorf("ended with %v", err)
	}
	if left := filesIn(t, dir); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestEachMailIsToldInALine(t *testing.T) {
	address, lines, stop := startSink(t)
	told := make(chan string, 1)
	go func() { // ends with the sink
		lines.Scan()
		told <- lines.Text()
	}()
	if err := send(address, "Subject: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if got, want := <-told, "mail 1: 14 bytes from <me@example.com> to <you@example.com>, <her@example.com> "; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestAnUnknownOptionIsAnError(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // what is accepted ends at once
	for _, args := range [][]string{{"--nonsense"}, {"left over"}, {"--listen", "127.0.0.1:none"}} {
		if err := run(ctx, args, io.Discard, io.Discard); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
}
