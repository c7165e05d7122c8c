// Package cost measures what a request costs on this machine, and what each check
// adds to it.
//
// It owns the sample that is measured where no config is named, the rounds and
// their statistics, and the two children a measurement has: a service to stand
// behind the gateway and a load to stand in front of it, so that the CPU of this
// process is the gateway's. It hides how a gateway is built again and again with
// one check less.
//
// It trusts the config it is given, and changes nothing of it: services, issuers'
// keys, rates and record are replaced by its own, in memory and in a folder that
// goes away. A peer is not on this machine only if its owner proves it, see
// [attack.Own]. Nothing it has is worth stealing: its tokens open nothing else.
// Errors name what could not be measured; a request that is not answered as it
// must be ends the run, since what was measured would be something else.
//
//	report, err := cost.Run(ctx, cost.Config{Child: child, Rounds: 5, Turn: 400 * time.Millisecond, Connections: 32})
//	for _, l := range report.Lines {
//		fmt.Fprintln(w, l.Name, l.CPU.Median, l.CPU.Spread)
//	}
//	svg := report.SVG()
package cost
