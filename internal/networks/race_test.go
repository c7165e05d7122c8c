//go:build race

package networks_test

const raceEnabled = true
