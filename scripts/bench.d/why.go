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

	whyHerd = `nobody is lost and nobody starves, but the work does not fit: of the two processors' time the clients,
the mail server, ssh and sshd take four fifths, minimail a fifth, and what else runs there comes on top. Half of
minimail's part is connecting to ssh and dialing before that, the rest is accepting, copying and closing.`

	whyBulkSSH = `two processors are shared by the client, ssh, sshd, the far end and, on our side only, minimail. A GB up takes
1.4 s of ssh's processor time and 1.0 s of sshd's behind a bare ssh -L, 1.6 and 1.2 s behind minimail (its bytes come from
another processor's cache; ssh's system calls are as many and as large), and minimail adds 0.25 s, nearly all of
it in splice(2), which copies nothing. Other forwarders in front of the same ssh -L fare no better: a GB took, in turns, medians of 7,
2.26 s alone, 2.77 s through minimail, 2.86 s through nginx and 2.84 s through systemd-socket-proxyd. Reading and writing
with 64 KiB to 1 MiB, smaller socket buffers, and pauses of 0.3 to 2 ms to move more at a time changed nothing that
could be told from noise. With a processor to spare, the row is a matter of ssh's cipher.`

	whyBulkAlone = `minimail and systemd-socket-proxyd do the same, splice(2) through a pipe, and are as fast as the kernel's
loopback lets them: strace shows calls that move a MiB each, and next to no others. Which of them is ahead
differs from run to run, within the spread.`

	whyGreetingAlone = `for a client that is greeted and leaves, nginx spends 66 µs of processor time, minimail some 240, of which
140 in the kernel. In its profile the dial to the near end is 15 % (the TCP handshake, mostly), scheduling goroutines
and waking their threads 17 %, the runtime's watchdog thread 10 %, the log line 9 %, accept 5 %; the check that
the near end is our own ssh's, which nginx has no need of, takes 6 µs. Between accept and greeting it takes some
130 µs, 100 of them waiting for the far end, which shares the processors. What has been taken out on the way here: a watcher and two
more goroutines per client, keepalives, a netlink socket per question, two sleeps of 50 µs until the near end
had accepted, a wait for a connection that is complete at once.`

	whyReplyAlone = `a line, and its reply, take epoll_wait, read and write each, as in nginx. All programs in this row have two
speeds, some 45 and some 100 µs, by where the kernel wakes their threads: on the processor that has just
fallen silent, or on the other one, which sleeps. Go's thread, which looks for other work before it sleeps, is more often at the
second. With 3,000 requests on a connection instead of 100 there was no difference (medians of three
turns: minimail 64 to 108 µs, nginx 97 to 112 µs).`

	whyMemory = `a client that is quiet is an entry in the relay's table, what is left of two sockets of the runtime's, and the
lease on the tunnel; the rest is garbage that no collection has come for yet.`

	whyIdle = `strace of an idle daemon shows no timer and no goroutine of ours; what wakes it is Go's runtime.`

	whyResident = ""
	whyStart    = ""
	whyStop     = ""
	whyBinary   = ""
)
