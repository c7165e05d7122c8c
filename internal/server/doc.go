// Package server is the house itself: it reads the config, compiles it into a
// snapshot, wires the rooms by hand (wire.go), listens, reloads and stops.
//
// It owns what outlives a reload: the database, the record, the limits' counts,
// key sets, connection pools, metrics. It hides the order of start and stop.
//
// It trusts the config file and the folder it names. A config that does not
// compile, or whose own tests fail, is not put to work: at start the program
// ends, at a reload the old snapshot goes on serving and the reason is logged
// and shown in /healthz.
//
// Errors name the place in the file and the way out.
//
//	err := server.Run(ctx, server.Options{Config: "gatehouse.yaml", Log: logger})
//
// The questions of the command line (check, test, access matrix, effective,
// explain, keys) are answered here too, without listening anywhere.
package server
