//go:build !race

package ddos_test

const underRace = false
