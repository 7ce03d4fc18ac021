package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// patience is how long any one step may take.
const patience = 20 * time.Second

// visit connects and waits for the greeting.
func visit(addr string, patience time.Duration) (net.Conn, error) {
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	line := make([]byte, len(greeting))
	if _, err := io.ReadFull(c, line); err != nil {
		c.Close()
		return nil, fmt.Errorf("no greeting: %w", err)
	}
	if string(line) != greeting {
		c.Close()
		return nil, fmt.Errorf("not the greeting: %q", line)
	}
	return c, nil
}

// greet returns the time from connecting to the greeting.
func greet(addr string) (time.Duration, error) {
	began := time.Now()
	c, err := visit(addr, patience)
	took := time.Since(began)
	if err == nil {
		c.Close()
	}
	return took, err
}

// greetMany returns the median of n greetings.
func greetMany(addr string, n int) (time.Duration, error) {
	var all series
	for range n {
		d, err := greet(addr)
		if err != nil {
			return 0, err
		}
		all = append(all, d.Seconds())
	}
	return seconds(all.median()), nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// mail is a mail of some 4 KiB, as cron and monitors send them.
var mail = "Subject: bench\r\n\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 56) + ".\r\n"

// sendMail returns the time of a whole session, from connecting until the
// server has closed. No pipelining: that is how simple clients do it.
func sendMail(addr string) (time.Duration, error) {
	began := time.Now()
	c, err := visit(addr, patience)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	for _, say := range []string{"EHLO bench\r\n", "MAIL FROM:<a@localhost>\r\n", "RCPT TO:<b@localhost>\r\n", "DATA\r\n", mail, "QUIT\r\n"} {
		if err := ask(c, say); err != nil {
			return 0, err
		}
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		return 0, fmt.Errorf("no orderly end after QUIT: %v", err)
	}
	return time.Since(began), nil
}

// sendTen is ten mails, each on a connection of its own.
func sendTen(addr string) (sum time.Duration, err error) {
	for range 10 {
		d, err := sendMail(addr)
		if err != nil {
			return 0, err
		}
		sum += d
	}
	return sum, nil
}

// ask says a line and reads the reply's.
func ask(c net.Conn, say string) error {
	if _, err := io.WriteString(c, say); err != nil {
		return err
	}
	buf := make([]byte, 64)
	for n := 0; n == 0 || buf[n-1] != '\n'; {
		m, err := c.Read(buf[n:])
		if err != nil {
			return fmt.Errorf("no reply to %.4q: %w", say, err)
		}
		n += m
	}
	if !bytes.ContainsAny(buf[:1], "23") {
		return fmt.Errorf("%.4q is answered %q", say, buf)
	}
	return nil
}

// replies returns the median time of n requests with their replies, on one
// connection.
func replies(addr string, n int) (time.Duration, error) {
	c, err := visit(addr, patience)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	var all series
	for range n {
		began := time.Now()
		if err := ask(c, "NOOP\r\n"); err != nil {
			return 0, err
		}
		all = append(all, time.Since(began).Seconds())
	}
	return seconds(all.median()), nil
}

var block = make([]byte, 256<<10)

// bulk returns the bytes per second of n bytes one way. The connection is made
// before.
func bulk(addr string, way byte, n int64) (float64, error) {
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * patience))
	if err := order(c, way, 1); err != nil { // the way is open now
		return 0, err
	}
	began := time.Now()
	err = order(c, way, n)
	return float64(n) / time.Since(began).Seconds(), err
}

func order(c net.Conn, way byte, n int64) error {
	if _, err := c.Write(binary.BigEndian.AppendUint64([]byte{way}, uint64(n))); err != nil {
		return err
	}
	buf := make([]byte, len(block))
	answer := n
	if way == 'u' {
		answer = 1
		for left := n; left > 0; {
			m, err := c.Write(block[:min(left, int64(len(block)))])
			if err != nil {
				return err
			}
			left -= int64(m)
		}
	}
	for left := answer; left > 0; {
		m, err := c.Read(buf[:min(left, int64(len(buf)))])
		if err != nil {
			return err
		}
		left -= int64(m)
	}
	return nil
}

// herd lets n clients come at once, and returns when the last one of those was
// greeted who were greeted within patience, and why the others were not. All stay until the last
// one is through.
func herd(addr string, n int, patience time.Duration) (last time.Duration, lost []error) {
	var mu sync.Mutex
	var all []net.Conn
	var clients sync.WaitGroup
	began := time.Now()
	for range n {
		clients.Go(func() {
			c, err := visit(addr, patience)
			took := time.Since(began)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				lost = append(lost, err)
			case took > patience:
				lost = append(lost, errors.New("greeted too late"))
			default:
				last = max(last, took)
			}
			if c != nil {
				all = append(all, c)
			}
		})
	}
	clients.Wait()
	hangUp(all)
	return last, lost
}

// hangUp resets the connections, so that no port is taken for a minute after.
func hangUp(all []net.Conn) {
	for _, c := range all {
		_ = c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
}

// hold opens n greeted connections, some at a time.
func hold(addr string, n int) ([]net.Conn, error) {
	var all []net.Conn
	for range n {
		c, err := visit(addr, patience)
		if err != nil {
			hangUp(all)
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}
