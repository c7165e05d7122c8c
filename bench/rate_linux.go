package main

import (
	"syscall"
	"time"
)

// precise has the calling thread wake when it asked to, not up to 50 µs later.
func precise() {
	const setTimerSlack = 29 // PR_SET_TIMERSLACK
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, setTimerSlack, 1, 0)
}

// nap sleeps in the kernel: the runtime's own timers are a millisecond coarse while
// nothing else is to be done.
func nap(d time.Duration) {
	t := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&t, nil) // woken early: the caller looks at the clock
}
