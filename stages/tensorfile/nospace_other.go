//go:build !unix

package tensorfile

import "errors"

// errNoSpace matches no error: a full disk is told by the system's own text.
var errNoSpace = errors.New("no space left on device")
