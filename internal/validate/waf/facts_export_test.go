package waf

// Single reads a single variable as the engine does.
func (f *Facts) Single(name string) (string, bool) {
	if name == "REQBODY_PROCESSOR" {
		return f.processorIn(2), true
	}
	read, ok := singleOf(name)
	if !ok {
		return "", false
	}
	return read(f), true
}
