package main

// Why a row is not met, where that has been found out with a profiler. It is
// printed only beside rows that are not.
const (
	whyCold = `what is above ssh's own time is work that competes with ssh and sshd for the processors while they
log in. For each launch minimail spends some 25 ms of processor time. Most of what pprof sees of that (180 of
310 ms) is trying the near end every 2 ms, at both addresses of the loopback; the rest is the start of ssh,
looking for its connection once a millisecond (a pidfd, /proc/PID/fd and a duplicate of each socket, until
found) and TCP_QUICKACK. On a machine whose processors are all busy with something else that is not free, and
the row wavers around its target (0.82 alone on the machine, 1.4 beside a test suite); where they are not, the
acknowledgements gain more than that costs.`

	whyWarm = ""
	whyMail = ""

	whyHerd = `nobody is lost and nobody starves, but the work does not fit: 2,000 clients take 0.6 s of minimail's processor
time, 0.6 s of ssh's and 0.6 s of sshd's, beside the clients' and the mail server's 0.4 s, all on the same two
processors, and what else runs there comes on top. In minimail's profile 36 % is asking the kernel who holds the
other end of a connection to ssh (peerOf): each question opens a netlink socket and closes it, and is repeated until ssh
has accepted the connection, which takes long in a herd. One socket that stays open, and one question after
the server has spoken, when ssh must have accepted, would save most of that.`

	whyBulkSSH = `two processors are shared by the client, ssh, sshd, the far end and, on our side only, minimail. A GB up takes
1.2 s of ssh's processor time and about as much of sshd's; minimail adds 0.2 s, all of it in splice(2), which
copies nothing. Where there is no free processor for it, that is some 7 %, plus one more wake-up for each
buffer that ssh drains. With read(2) and write(2) instead, for a trial, it was 0.4 s.`

	whyBulkAlone = `minimail and systemd-socket-proxyd do the same, splice(2) through a pipe, and are as fast as the kernel's
loopback lets them: strace shows calls that move a MiB each, and next to no others. Which of them is ahead
differs from run to run, within the spread.`

	whyGreetingAlone = `between accept and greeting nginx makes twelve system calls, minimail some twenty-five, and they are 60 % of
its profile. The dial to the near end is 19 % (package net asks for both addresses, and parks the goroutine until the
poller reports a connection that on the loopback is complete at once), the scheduling of goroutines 13 %
(one more for each client watches whether it leaves), the check that the near end is our own ssh's 9 % (socket, sendto,
recvfrom and close on netlink), accept 9 %, half of it four calls for keepalives that the loopback has no use for. Left out
for a trial, the check gained 40 µs, and the watcher 12 µs: both are what nginx does not do, as it sends a
client's bytes to whoever listens.`

	whyReplyAlone = `a request needs three calls of splice(2) and a poll, its reply two reads, a write and a poll, because Go always tries
once more before it waits; nginx makes six calls in all, in one thread. The rest is Go's
scheduler, 10 to 45 µs from run to run: before a thread sleeps it looks for other work and polls once more, on
one of the two processors that the other programs want.`

	whyMemory = `8.6 KiB of each connection are the stacks of its two goroutines, one for each direction, and 2.6 KiB live
objects (sockets with their addresses, contexts, the bridge between them); the rest is garbage that no
collection has come for yet. haproxy and nginx have no stacks: a client that is idle is an entry in a table.`

	whyIdle = `strace of an idle daemon shows no timer and no goroutine of ours; what wakes it is Go's runtime.`

	whyResident = ""
	whyStart    = ""
	whyStop     = ""
	whyBinary   = ""
)
