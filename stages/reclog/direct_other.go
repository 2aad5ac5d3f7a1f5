//go:build !linux

package reclog

import "errors"

func createDirect(string) (File, error) {
	return nil, errors.New("direct writes are not to be had on this system")
}

func likeHuge([]byte) {}
