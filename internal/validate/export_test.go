package validate

// NewWAF makes a WAF of any engine, for tests that listen to what it is asked.
var NewWAF = newWAF
