//go:build race

package http1

// laneRace: nothing is used twice, and what was lent is spoilt.
const laneRace = true
