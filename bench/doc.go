// Command bench compares what Gatehouse costs, with its checks on, with plain
// proxies, in one run on this machine: a request's CPU, with and without TLS, bodies,
// many connections, waits at half load, idle connections; and it soaks a Gatehouse
// in mixed traffic. See README.md.
package main
