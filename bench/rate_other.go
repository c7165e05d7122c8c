//go:build !linux

package main

import "time"

func precise() {}

func nap(d time.Duration) { <-time.After(d) }
