//go:build unix

package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"
)

// The far end is what is behind the forwarders: a mail server that costs next
// to nothing, and a server of bulk. It is a process of its own because
// minimail only uses a near end that belongs to what it has launched, and to its
// own user: what is in place of ssh gets copies of the listening sockets.

const greeting = "220 bench\r\n"

// farEnd prints the addresses of the two servers in a line and serves until it
// is killed.
func farEnd(copies string) error {
	mail, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	bulk, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	all, err := net.Listen("unix", copies)
	if err != nil {
		return err
	}
	go serve(all, func(c net.Conn) { handOut(c, mail, bulk) }) // ends with the process
	fmt.Println(mail.Addr().(*net.TCPAddr).Port, bulk.Addr().(*net.TCPAddr).Port)
	go serve(mail, serveMail) // ends with the process
	return serve(bulk, serveBulk)
}

// handOut sends copies of listening sockets over a Unix socket.
func handOut(to net.Conn, listeners ...net.Listener) {
	var fds []int
	for _, l := range listeners {
		raw, err := l.(*net.TCPListener).SyscallConn()
		if err != nil {
			return
		}
		_ = raw.Control(func(fd uintptr) { fds = append(fds, int(fd)) })
	}
	_, _, _ = to.(*net.UnixConn).WriteMsgUnix([]byte{0}, syscall.UnixRights(fds...), nil)
}

// keepCopies is in place of ssh where there is to be none: it has the sockets, and
// leaves them alone until it is killed.
func keepCopies(from string) error {
	c, err := net.Dial("unix", from)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, _, _, _, err := c.(*net.UnixConn).ReadMsgUnix(make([]byte, 1), make([]byte, 64)); err != nil {
		return err
	}
	for {
		time.Sleep(time.Hour)
	}
}

func serve(l net.Listener, visit func(net.Conn)) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() { // ends when the client has gone
			defer c.Close()
			visit(c)
		}()
	}
}

// serveMail speaks as much SMTP as a mail needs.
func serveMail(c net.Conn) {
	if _, err := io.WriteString(c, greeting); err != nil {
		return
	}
	// Thousands may be held at a time: a small buffer.
	lines := bufio.NewReaderSize(c, 512)
	text := false
	for {
		line, err := lines.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			return
		}
		word := strings.ToUpper(strings.TrimRight(string(line[:min(len(line), 5)]), "\r\n "))
		reply := "250 ok\r\n"
		switch {
		case text && word != ".":
			continue
		case text:
			text = false
		case word == "DATA":
			text, reply = true, "354 go on\r\n"
		case word == "QUIT":
			reply = "221 bye\r\n"
		}
		if _, err := io.WriteString(c, reply); err != nil || word == "QUIT" {
			return
		}
	}
}

// serveBulk takes an order, a letter and a number of bytes: u is answered with
// a byte when all have come, d with so many bytes.
func serveBulk(c net.Conn) {
	var order [9]byte
	block := make([]byte, 256<<10)
	for {
		if _, err := io.ReadFull(c, order[:]); err != nil {
			return
		}
		n := int64(binary.BigEndian.Uint64(order[1:]))
		for left := n; left > 0; {
			piece := block[:min(left, int64(len(block)))]
			var did int
			var err error
			if order[0] == 'u' {
				did, err = c.Read(piece)
			} else {
				did, err = c.Write(piece)
			}
			if err != nil {
				return
			}
			left -= int64(did)
		}
		if order[0] == 'u' {
			if _, err := c.Write(order[:1]); err != nil {
				return
			}
		}
	}
}
