package forward

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A direction is what one side of a visit sends the other.
type direction struct {
	from, to Stream
	raw      syscall.RawConn // from's; nil: it has none
	lease    Lease           // to be told of bytes; nil: there is none
	seen     func([]byte)    // is shown what is copied, before it is; nil: nobody looks
	n        int64           // bytes that have been copied; its goroutine's, until that has ended

	asleep bool // it has been made to wait
	bulk   bool // there was more than fits into a buffer
	left   int  // bytes that can be read at once, if bulk
	stuck  bool // not all that was read could be written
}

// A buffer is lent for as long as there is something in it: a client that is
// held for hours needs none.
type buffer [32 << 10]byte

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// copy returns nil at an orderly end of from, which is not passed on here.
//
// Most of the time it waits. So it waits with nothing at hand: on a stack as
// shallow as can be, and without a buffer.
func (d *direction) copy() (err error) {
	if d.raw == nil {
		d.n, err = io.Copy(d.to, d.from)
		return err
	}
	ready := d.ready
	for err == nil {
		d.asleep = false
		if err = d.raw.Read(ready); err != nil {
			break
		}
		if d.lease != nil {
			d.lease.Received()
		}
		if d.left > 0 {
			err = d.splice()
		} else {
			err = d.chunk()
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// ready reports whether there is something to read, or the end. It is asked
// once before it is made to wait, and then when that is so.
func (d *direction) ready(fd uintptr) bool {
	d.left = 0
	if d.bulk {
		d.left = readable(int(fd))
	}
	if d.left < len(buffer{})/8 { // a pipe is not worth it
		d.left = 0
	}
	is := d.asleep || d.left > 0 || polled(int(fd), unix.POLLIN)
	d.asleep = true
	return is
}

// chunk copies as much as a buffer holds.
func (d *direction) chunk() error {
	b := buffers.Get().(*buffer)
	defer buffers.Put(b)
	n, err := d.from.Read(b[:])
	d.bulk = n == len(b) && d.seen == nil
	if n == 0 {
		return err
	}
	if d.seen != nil {
		d.seen(b[:n])
	}
	n, err = d.to.Write(b[:n])
	d.n += int64(n)
	d.stuck = err != nil
	return err
}

// splice copies what is there by splice(2), where package net does that.
func (d *direction) splice() (err error) {
	var n int64
	if _, ok := d.to.(*net.UnixConn); ok { // not a part only
		n, err = io.Copy(d.to, d.from)
	} else {
		n, err = io.CopyN(d.to, d.from, int64(d.left))
	}
	d.n += n
	return err
}
