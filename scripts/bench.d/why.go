package main

// Why a row is not met, where that has been found out with a profiler. It is
// printed only beside rows that are not.
const (
	whyCold = `what is above ssh's own time is work that competes with ssh and sshd for the processors while they
log in. For each launch minimail spends some 25 ms of processor time. 60 % of that is trying the near end, at both
addresses of the loopback each time and every 2 ms; the rest is the start of ssh, looking for its connection once a millisecond
(a pidfd, /proc/PID/fd and a duplicate of each socket, until found) and TCP_QUICKACK. On a
machine whose processors are all busy with something else that is not free, and the row wavers around its target;
where they are not, the acknowledgements gain more than that costs.`

	whyWarm = ""

	whyMail = ""

	whyHerd = `2,000 clients took 0.6 s of minimail's processor time, 0.6 s of ssh's and 0.6 s of sshd's, all on the same
two processors, beside the clients and the mail server, so that what else runs on the machine counts at once. In minimail's profile
36 % is the question to the kernel who holds the other end of a connection to ssh (peerOf): each opens a netlink
socket, asks, closes it, and is repeated until ssh has come to accept the connection, which takes long in a herd.
Asking once, after the server has spoken, and on one socket that stays open, would save most of that.`

	whyBulkSSH = `the bytes pass one more process, on processors that ssh and sshd's ciphers keep busy (the clients and
the far end run there, too). minimail moves them with splice(2), a MiB a call, without copying; with more processors than busy
programs there is no difference to be seen.`

	whyBulkAlone = `minimail and systemd-socket-proxyd do the same, splice(2) through a pipe of up to a MiB, and are as fast as the
kernel's loopback lets them: strace shows full pipes both ways and next to no other call. Which of them
is ahead differs from run to run, within the spread.`

	whyGreetingAlone = `between accept and greeting nginx makes some ten system calls, minimail twenty-five, and
they are 60 % of its profile. The connect to the near end is 18 % (package net parks the client's goroutine until the poller reports a connection that on the loopback is complete
at once), the check that the near end is our own ssh's 13 % (socket, sendto, recvfrom, close on netlink), the scheduling of goroutines 12 %
(two of them for a client that still waits: one watches whether it leaves), keepalive options 3 %. Taken out for a trial, the
check gains 40 µs, and the watcher 12 µs. It is what nginx does not do:
it sends a client's bytes to whoever listens.`

	whyReplyAlone = `a request needs three calls of splice(2) and a poll, its reply two reads, a write and a poll, because Go
always tries once more before it waits. nginx makes six in all, in one thread. What is left of the difference is Go's scheduler, which
hands a goroutine that has become ready over from the poller; it is some microseconds.`

	whyMemory = `12.7 KiB of each connection are stacks: one goroutine for each direction, of 8 KiB (the one that has
dialed, whose stack has grown for that) and 4 KiB; 5 KiB live objects: the buffer for replies 2, the logger's context 0.5, the rest sockets and
contexts; the remainder is garbage that has not been collected yet. haproxy and nginx have no stacks; a
client that is idle is a few hundred bytes of state for them.`

	whyIdle = `strace of an idle daemon shows no timer and no goroutine of ours; what wakes it is Go's runtime.`

	whyResident = ""
	whyStart    = ""
	whyStop     = ""
	whyBinary   = ""
)
