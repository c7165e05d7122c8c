package plan

import "github.com/gatehouse-api/gatehouse/internal/config"

// textOf is what was written, "" for nothing.
func textOf(t *config.Text) string {
	if t == nil {
		return ""
	}
	return t.Value
}

// placeOf is where the first that was written is.
func placeOf(otherwise config.Place, texts ...*config.Text) config.Place {
	for _, t := range texts {
		if t != nil {
			return t.Place
		}
	}
	return otherwise
}
