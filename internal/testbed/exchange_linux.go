package testbed

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func init() { Roles["exchange"] = exchange }

// exchange DIRECTORY TARGET makes a directory and exchanges it for a link to
// TARGET, back and forth, until it is killed.
func exchange(args []string) int {
	link := args[0] + ".link"
	err := os.Mkdir(args[0], 0o755)
	if err == nil {
		err = os.Symlink(args[1], link)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for said := false; ; said = true {
		err = unix.Renameat2(unix.AT_FDCWD, args[0], unix.AT_FDCWD, link, unix.RENAME_EXCHANGE)
		if !said {
			fmt.Println("exchanging", err)
		}
	}
}
