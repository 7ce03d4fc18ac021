package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/urfave/cli/v2"
)

// status prints what App::Daemon printed, and exits with the LSB's codes.
func status(s settings) error {
	path := s.findPidFile()
	exists, pid, running, err := held(path)
	if err != nil {
		return cli.Exit(err, exitUnknown)
	}
	if s.asJSON {
		err = statusJSON(path, pid, running)
	} else {
		statusText(path, exists, pid, running)
	}
	switch {
	case err != nil:
		return cli.Exit(err, exitUnknown)
	case running:
		return nil
	case pid == 0:
		return cli.Exit("", exitNotRunning)
	}
	return cli.Exit("", exitDeadPidFile)
}

func statusText(path string, exists bool, pid int, running bool) {
	fmt.Printf("Pid file:    %s\n", path)
	if !exists {
		fmt.Println("No pid file found: not running")
		return
	}
	number := "none"
	if pid != 0 {
		number = strconv.Itoa(pid)
	}
	yes := map[bool]string{true: "yes", false: "no"}
	fmt.Printf("Pid in file: %s\nRunning:     %s\n", number, yes[running])
	if running {
		how(path)
	}
}

// statusJSON prints one object; what a running minimail says of itself, or why
// that is not to be had, is in it.
func statusJSON(path string, pid int, running bool) error {
	answer := struct {
		PidFile string  `json:"pid_file"`
		PID     int     `json:"pid_in_file"`
		Running bool    `json:"running"`
		Report  *report `json:"report,omitempty"`
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
	return json.NewEncoder(os.Stdout).Encode(answer)
}

// how prints what a running minimail says of itself.
func how(pidFile string) {
	r, err := askControl(pidFile)
	switch {
	case errors.Is(err, os.ErrPermission):
		fmt.Println("More:        ask as root, or as the user that it runs as")
	case err != nil:
		fmt.Printf("More:        not to be had: %v\n", err)
	default:
		r.print(os.Stdout)
	}
}
