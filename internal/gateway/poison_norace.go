//go:build !race

package gateway

const poisoned = false

func (x *exchange) poison() {}
