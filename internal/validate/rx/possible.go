package rx

// Possible says which patterns can match at least one text of l. What is not in
// it is proven impossible; when the proof would take too long, all are possible.
func (s *Set) Possible(l *Language) Bits {
	all := NewBits(s.Len())
	for i := range s.Len() {
		all.Set(i)
	}
	return all
}

// Example returns a text of l that pattern i matches, if one was found.
func (s *Set) Example(i int, l *Language) (string, bool) { return "", false }
