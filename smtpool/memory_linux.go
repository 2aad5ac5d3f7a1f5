package smtpool

import (
	"os"

	"golang.org/x/sys/unix"
)

func memory() int64 {
	n := installed(os.DirFS("/"))
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_AS, &l) == nil && l.Cur < 1<<62 {
		if as := int64(l.Cur / 4 * 3); n == 0 || as < n { // the runtime and the program itself take some of the addresses
			n = as
		}
	}
	return n
}
