// Package storetest is the one suite every engine behind package store must
// pass, whichever practice its tables serve.
//
// It owns no data and trusts nothing: it opens databases through the function
// it is given and looks only through the door of package store. What it finds
// it reports as test failures.
//
//	func TestSQLite(t *testing.T) {
//		dir := t.TempDir()
//		storetest.Run(t, func(t *testing.T, name string) *store.DB { … filepath.Join(dir, name) … })
//	}
package storetest
