//go:build unix

package tensorfile

import "syscall"

// errNoSpace is what a full disk says.
var errNoSpace error = syscall.ENOSPC
