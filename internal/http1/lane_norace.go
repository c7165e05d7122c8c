//go:build !race

package http1

const laneRace = false
