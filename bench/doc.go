// Command bench compares the CPU a request costs in Gatehouse, with its checks
// on, and in plain proxies, in one run on this machine. See README.md.
package main
