//go:build unix

package tensorfile

import (
	"errors"
	"syscall"
)

// noSpace recognizes what a full disk, a used-up quota and a limit on the size of files say.
func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}
