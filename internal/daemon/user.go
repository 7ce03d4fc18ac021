package daemon

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"

	"golang.org/x/term"

	"minimail/internal/fail"
	"minimail/internal/settings"
	"minimail/privdrop"
	"minimail/tunnel"
)

// UserName is what the user that we are is called.
func UserName() string { return privdrop.Name(os.Getuid()) }

// nameSomebody is for root who has nobody to become.
const nameSomebody = "--user NAME, or SUDO_USER=NAME in /etc/default/minimail"

// ToBecome is the user to become, or nil if there is nothing to give up. One that
// cannot be is a wrong setting; who cannot be looked up now may be known later.
func ToBecome(s settings.Settings) (*user.User, error) {
	root := os.Geteuid() == 0
	if s.User == "" {
		if !root {
			return nil, refuseAnybody(strconv.Itoa(os.Getuid()))
		}
		return nil, wrong(errors.New("no user to become: root has to become somebody else"), nameSomebody)
	}
	who, err := privdrop.Lookup(s.User)
	switch {
	case errors.As(err, new(privdrop.Unknown)):
		return nil, wrong(err, "getent passwd # lists the names")
	case err != nil:
		return nil, fail.Hint(err, "getent passwd # lists the names")
	case who.Uid == "0":
		return nil, wrong(errors.New("the user to become must not be root"), nameSomebody)
	case root:
		return who, refuseAnybody(who.Uid)
	case who.Uid == strconv.Itoa(os.Getuid()):
		return nil, refuseAnybody(who.Uid)
	}
	return nil, fail.Exit(fail.Hint(fmt.Errorf("only root can become %s", s.User), "run it with sudo, or --user %s for one of your own", fail.Quote(UserName())), fail.NeedsRoot)
}

// wrong is about a setting that says what cannot be.
func wrong(err error, hint string, args ...any) error {
	return fail.Exit(fail.Hint(err, hint, args...), fail.Usage)
}

// refuseAnybody is an error if a uid means nobody in particular: the kernel could
// not tell minimail's own processes from those of strangers.
func refuseAnybody(uid string) error {
	if n, err := strconv.Atoi(uid); err != nil || !tunnel.IsAnybody(n) {
		return err
	}
	return wrong(fmt.Errorf("cannot be uid %s in a user namespace: all whom it does not know have that uid there", uid),
		"%s; or PrivateUsers=no in minimail.service", nameSomebody)
}

// WithSudo turns an error for want of root into a second try through sudo, if
// somebody is there to be asked for a password. Any other error it returns.
func WithSudo(s settings.Settings, err error) error {
	if fail.Status(err) != fail.NeedsRoot || !term.IsTerminal(0) {
		return err
	}
	sudo, lookErr := exec.LookPath("sudo")
	self, exeErr := os.Executable()
	if lookErr != nil || exeErr != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "minimail: this needs root; asking sudo")
	// sudo does not pass our environment on, so settings go as options.
	argv := append([]string{"sudo", "--", self}, s.Argv()...)
	execErr := syscall.Exec(sudo, argv, os.Environ())
	fail.Print(os.Stderr, err) // which is empty if the daemon has said it
	return fail.Exit(fmt.Errorf("cannot run sudo: %w", execErr), fail.NeedsRoot)
}
