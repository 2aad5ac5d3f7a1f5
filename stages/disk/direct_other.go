//go:build !linux

package disk

import "errors"

func createDirect(string) (File, error) {
	return nil, errors.New("direct writes are not to be had on this system")
}

func likeHuge([]byte) {}
