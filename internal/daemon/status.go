package daemon

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"minimail/internal/fail"
	"minimail/internal/settings"
)

// Status prints what App::Daemon printed, and exits with the LSB's codes.
func Status(s settings.Settings) error {
	path := FindPidFile(s)
	exists, pid, running, err := Held(path)
	if err != nil {
		return fail.Exit(err, fail.Unknown)
	}
	if s.JSON {
		err = statusJSON(path, pid, running)
	} else {
		_, err = os.Stdout.WriteString(statusText(path, exists, pid, running))
	}
	switch {
	case err != nil:
		return fail.Exit(err, fail.Unknown)
	case running:
		return nil
	case pid == 0:
		return fail.Silent(fail.NotRunning)
	}
	return fail.Silent(fail.DeadPidFile)
}

func statusText(path string, exists bool, pid int, running bool) string {
	var text strings.Builder
	fmt.Fprintf(&text, "Pid file:    %s\n", path)
	if !exists {
		return text.String() + "No pid file found: not running\n"
	}
	number := "none"
	if pid != 0 {
		number = strconv.Itoa(pid)
	}
	yes := map[bool]string{true: "yes", false: "no"}
	fmt.Fprintf(&text, "Pid in file: %s\nRunning:     %s\n", number, yes[running])
	if running {
		how(&text, path)
	}
	return text.String()
}

// statusJSON prints one object; what a running minimail says of itself, or why
// that is not to be had, is in it.
func statusJSON(path string, pid int, running bool) error {
	answer := struct {
		PidFile string  `json:"pid_file"`
		PID     int     `json:"pid_in_file"`
		Running bool    `json:"running"`
		Report  *Report `json:"report,omitempty"`
		Error   string  `json:"error,omitempty"`
	}{PidFile: path, PID: pid, Running: running}
	if running {
		r, err := askControl(path)
		if err != nil {
			answer.Error = err.Error()
		} else {
			answer.Report = &r
		}
	}
	return fail.JSON(os.Stdout, answer, "")
}

// how prints what a running minimail says of itself.
func how(w io.Writer, pidFile string) {
	r, err := askControl(pidFile)
	switch {
	case errors.Is(err, os.ErrPermission):
		fmt.Fprintln(w, "More:        ask as root, or as the user that it runs as")
	case err != nil:
		fmt.Fprintln(w, "More:        not to be had: "+fail.Printable(err.Error()))
	default:
		r.print(w)
	}
}
