package rx_test

import (
	"math/rand/v2"
	"strings"
)

// shortValues are the values of an ordinary order, as JSON or a form brings them.
var shortValues = []string{
	"5f2b8c1e-9d34-4a6b-8f11-0c2d7e9a4b55", "alice.smith@example.org", "Alice Smith", "+44 20 7946 0958",
	"221B Baker Street", "London", "NW1 6XE", "GB", "2026-11-23T17:52:29Z", "EUR", "149.90", "pending",
	"Please ring the bell twice & leave it with the neighbour.", "express", "SKU-00931-BLUE-XL", "Rain jacket, blue, size XL",
	"https://shop.example.org/items/931?ref=mail", "en-GB", "true", "2", "https://cdn.example.org/img/931.jpg", "card", "tok_1NirD82eZvKYlo2C",
	"Visa", "4242", "12/2028", "gift: happy birthday, Bob!", "Bob O'Brien", "12 Rue de l'\u00c9glise", "Orl\u00e9ans", "45000", "FR", "standard",
	"SPRING-2026", "10%", "newsletter", "weekly", "Mozilla/5.0 (X11; Linux x86_64)", "1700000000", "m\u00fcnchen",
}

var words = strings.Fields(`the of and to in is that for it with as was on be at by this had not are but from or have an they which one you
	were all her she there would their we him been has when who will more no if out so said what up its about into than them can only other
	new some could time these two may then do first any my now such like our over man me even most made after also did many before must
	through back years where much your way well down should because each just those people how too little state good very make world still
	select union table order group insert update delete drop having where value values data base admin user password login script alert
	system file path echo print cat find sort head tail more less time date exec eval include require function class object return import
	delivery customer invoice account payment address street number colour weather morning evening garden kitchen letter answer question`)

// prose returns n bytes of English-like text with quotes, brackets and numbers.
func prose(n int) string { return proseOf(n, 1) }

func proseOf(n int, seed uint64) string {
	r := rand.New(rand.NewPCG(seed, 2))
	var b strings.Builder
	for b.Len() < n {
		k := 5 + r.IntN(15)
		for i := range k {
			w := words[r.IntN(len(words))]
			if i == 0 {
				w = strings.ToUpper(w[:1]) + w[1:]
			}
			switch r.IntN(40) {
			case 0:
				w = "\"" + w + "\""
			case 1:
				w = "(" + w + ")"
			case 2:
				w += ","
			case 3:
				w += "'s"
			case 4:
				w += ";"
			case 5:
				w = []string{"2026", "7", "3.14", "100%", "A&B", "#4"}[r.IntN(6)]
			}
			if i > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(w)
		}
		b.WriteString([]string{". ", "? ", "! ", ".\n", ": ", ".\n\n"}[r.IntN(6)])
	}
	return b.String()[:n]
}
