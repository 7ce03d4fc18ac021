package forward

import (
	"fmt"
	"runtime"
	"syscall"
)

// RaiseFileLimit makes the limit of open files as high as we may, and returns
// it. The runtime has done that for us, but would set it back for ssh (package
// os).
func RaiseFileLimit() (uint64, error) {
	var limit syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	if err == nil {
		limit.Cur = limit.Max
		err = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	}
	if err != nil {
		return 0, fmt.Errorf("cannot raise the limit of open files: %w", err)
	}
	return uint64(limit.Cur), nil
}

// filesPerClient: two sockets, and a pipe each way for splice(2). filesOfOurs:
// listeners, logs, a socket to ask the kernel, what the launch
// of ssh takes, clients that wait for a place, and the pipes that package net
// keeps at hand for each processor.
const filesPerClient = 6

var filesOfOurs = 32 + 4*uint64(runtime.GOMAXPROCS(0))

// FilesFor is how many open files so many clients at a time need.
func FilesFor(clients int) uint64 { return filesOfOurs + filesPerClient*uint64(clients) }

// Affordable is how many clients can be served at a time with so many open
// files. Clients beyond that would keep those that are served from getting
// their connection; in the kernel's queue they do no harm.
func Affordable(maxClients int, limit uint64) int {
	if limit < FilesFor(1) {
		return 1
	}
	return int(min(uint64(maxClients), (limit-filesOfOurs)/filesPerClient))
}

// maxRoom is how many clients the kernel would have wait (somaxconn).
const maxRoom = 4096

// RoomFor is how many clients may wait for a place beside those that are served,
// with so many open files.
func RoomFor(clients int, limit uint64) int {
	if limit <= FilesFor(clients) {
		return 1 // filesOfOurs has it
	}
	return int(min(limit-FilesFor(clients), maxRoom))
}
