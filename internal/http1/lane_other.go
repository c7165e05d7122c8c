//go:build !linux

package http1

import "errors"

// laneHere: without a way to look at a peer nobody would learn that a caller has
// left. net/http serves all connections.
const laneHere = false

func laneLeft(uintptr, bool) bool { return false }

func laneRead(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }
