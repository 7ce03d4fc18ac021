//go:build unix

package main

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// busy is how many mails the processor time is measured with, and atATime how
// many of them are on their way at a time.
const busy, atATime = 1000, 10

// processorTime is what a busy hour costs: minimail and its ssh, beside a bare ssh,
// and beside a mail program that sends without either.
func (b *bench) processorTime() error {
	if _, err := exec.LookPath("msmtp"); err != nil {
		b.tell("skipped: the processor time: msmtp is not installed")
		return nil
	}
	addrs, end, err := b.warmTunnels(b.far.mail, "smtp")
	if err != nil {
		return err
	}
	defer end()
	var all []contender
	for _, a := range addrs {
		all = append(all, contender{a.name, func() (float64, error) {
			began := spentBy(family(a.pid))
			err := each(busy, atATime, func() error { _, err := sendMail(a.addr); return err })
			return spentBy(family(a.pid)) - began, err
		}})
	}
	r := &row{what: fmt.Sprintf("processor time for %d mails, with ssh's", busy), isAbsolute: true, target: 1}
	return b.abab(r, b.runs(3), append(all, contender{"msmtp", b.msmtp})...)
}

// msmtp sends the mails straight to the far end, each by a process of its own.
func (b *bench) msmtp() (float64, error) {
	var mu sync.Mutex
	var sum time.Duration
	err := each(busy, atATime, func() error {
		cmd := b.command("msmtp", "--file=/dev/null", "--host=127.0.0.1", "--port="+strconv.Itoa(b.far.mail), "--from=a@localhost", "b@localhost")
		cmd.Stdin = strings.NewReader(strings.TrimSuffix(mail, ".\r\n"))
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		mu.Lock()
		defer mu.Unlock()
		sum += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		return nil
	})
	return sum.Seconds(), err
}

// each calls f n times, so many at a time, and returns an error if there is one.
func each(n, atATime int, f func() error) error {
	var all sync.WaitGroup
	turns, errs := make(chan struct{}, n), make(chan error, n)
	for range n {
		turns <- struct{}{}
	}
	close(turns)
	for range atATime {
		all.Go(func() {
			for range turns {
				if err := f(); err != nil {
					errs <- err
				}
			}
		})
	}
	all.Wait()
	close(errs)
	return <-errs
}

// spentBy is the processor time, in seconds, that processes have used so far
// (proc_pid_stat(5), in hundredths).
func spentBy(pids []int) (sum float64) {
	for _, pid := range pids {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(fields) < 13 {
			continue // it has gone
		}
		for _, f := range fields[11:13] {
			n, _ := strconv.ParseFloat(f, 64)
			sum += n / 100
		}
	}
	return sum
}
