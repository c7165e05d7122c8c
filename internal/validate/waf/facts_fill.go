package waf

// AddCookies adds the cookies of one Cookie field, for who fills facts from what
// was decoded already instead of having [Facts.Read] do it again.
func (f *Facts) AddCookies(field string) { f.cookies(field) }
