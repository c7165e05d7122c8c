package main

import (
	"context"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"
)

// supervisor is how to tell systemd what becomes of this process, and how often it
// wants to hear of it (sd_notify(3), sd_watchdog_enabled(3)); nil and 0 without systemd.
func supervisor(env func(string) (string, bool), log *slog.Logger) (tell func(state string), every time.Duration) {
	socket, ok := env("NOTIFY_SOCKET") // "@name" is an abstract one, to package net too
	if !ok || socket == "" {
		return nil, 0
	}
	tell = func(state string) {
		c, err := (&net.Dialer{Timeout: time.Second}).DialContext(context.Background(), "unixgram", socket)
		if err == nil {
			_ = c.SetWriteDeadline(time.Now().Add(time.Second))
			_, err = c.Write([]byte(state))
			_ = c.Close()
		}
		if err != nil {
			log.Warn("the supervisor could not be told", slog.String("state", state), slog.Any("error", err))
		}
	}
	if pid, ok := env("WATCHDOG_PID"); ok && pid != strconv.Itoa(os.Getpid()) {
		return tell, 0 // meant for another process
	}
	text, _ := env("WATCHDOG_USEC")
	if usec, err := strconv.ParseInt(text, 10, 64); err == nil && usec > 0 {
		every = time.Duration(usec) * time.Microsecond / 2
	}
	return tell, every
}
