package rx

import (
	"slices"
	"strings"
)

// sampleWords and sampleMarks make the text on which expressions are tried to
// see which of them should share a dfa.
const (
	sampleWords = `the of and to in a is for on that by this with you it not or be are from at as your all have new more an was we will home can us
about if page my has search free but our one other do no information time they site he up may what which their news out use any there see only
so his when contact here business who web also now help get view online first am been would how were services some these its like service than
price date top people name just over state year day into email two world next used go work last most buy data make them should product system
post her city add policy number such please available copyright support message after best software then good video well where info rights public
books high school through each links she review years order very privacy book items company read group need many user said de does set under
general research university mail full map reviews program life know games way days management part could great united hotel real item select
center ebay must store travel comments made development report off member details line terms before hotels did send right type because local
union insert update delete from table having where drop create into values exec declare cast char substring order by limit sleep benchmark
script alert onload src href javascript document window cookie eval function return var let true false null undefined
cat ls id ps sh bash curl wget python perl ruby php node java cmd net ping find grep sort head tail less more echo print time date who env
file path include require import system passwd etc tmp usr bin var log www http https ftp admin root login password user
2026-11-23 12:30 149.90 42 7 0 +44 5f2b8c1e-9d34-4a6b-8f11-0c2d7e9a4b55 alice@example.org GB EUR SKU-00931 10% #5 A&B Orléans`
	sampleMarks = `" " ' ' ( ) ; ; : / // \ | || & && < > = == ! ? * $ { } [ ] , . - -- # % @ + ~ ^ _`
	sampleBytes = 2048
)

// sample is ordinary text, with the characters that expressions wait for strewn
// in. It is the same each time.
func sample() string {
	words, marks := strings.Fields(sampleWords), strings.Fields(sampleMarks)
	var b strings.Builder
	seed := uint64(1)
	pick := func(n int) int {
		seed = seed*6364136223846793005 + 1442695040888963407
		return int(seed >> 33 % uint64(n))
	}
	for b.Len() < sampleBytes {
		b.WriteString(words[pick(len(words))])
		switch k := pick(60); {
		case k < 4:
			b.WriteString(marks[pick(len(marks))])
		case k < 7:
			b.WriteString(" " + marks[pick(len(marks))])
		case k < 10:
			b.WriteString(". ")
		case k < 11:
			b.WriteString("\n")
		default:
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// A trace is where one expression stands after each character of the sample.
type trace []uint64

// traces runs expressions over the sample.
func (n *nfa) traces(exprs []uint32, w *scratch) []trace {
	text := sample()
	out := make([]trace, len(n.begin))
	for _, e := range exprs {
		out[e] = make(trace, 0, len(text))
	}
	starts := n.newStarts(exprs, w)
	w.lone = state{prev: atBegin}
	for i := 0; i < len(text); {
		class, width := n.classAt(text, i)
		i += width
		n.step(&w.lone, int(class), &starts, w)
		w.s, w.lone = w.lone, w.s
		for _, e := range exprs {
			out[e] = append(out[e], 0)
		}
		for _, p := range w.lone.at {
			t := out[n.expr[p]]
			t[len(t)-1] += mix(uint64(p) + 8)
		}
	}
	return out
}

// A filter counts different values, about.
type filter [1 << 10]uint64

func (f *filter) distinct(a, b trace) int {
	clear(f[:])
	count := 0
	for i, x := range a {
		x += b[i]
		x = (x ^ x>>32) % (uint64(len(f)) * 64)
		if f[x>>6]>>(x&63)&1 == 0 {
			f[x>>6] |= 1 << (x & 63)
			count++
		}
	}
	return count
}

// A part is expressions for one dfa.
type part struct {
	exprs  []uint32
	sum    trace
	states int // on the sample
}

func (n *nfa) newParts(exprs []uint32, w *scratch) []part {
	traces := n.traces(exprs, w)
	parts := make([]part, len(exprs))
	var f filter
	zero := make(trace, sampleBytes+64)
	for i, e := range exprs {
		parts[i] = part{[]uint32{e}, traces[e], f.distinct(traces[e], zero)}
	}
	slices.SortStableFunc(parts, func(a, b part) int { return b.states - a.states })
	return parts
}

func (p *part) join(q part, states int) {
	p.exprs, p.states = append(p.exprs, q.exprs...), states
	sum := make(trace, len(q.sum))
	for i := range sum {
		sum[i] = q.sum[i]
		if p.sum != nil {
			sum[i] += p.sum[i]
		}
	}
	p.sum = sum
}

// spread divides expressions among at most count dfas so that these need few
// states: expressions that follow the same words belong together.
func (n *nfa) spread(exprs []uint32, count int, w *scratch) [][]uint32 {
	if len(exprs) < 4*count {
		return [][]uint32{exprs}
	}
	all := n.newParts(exprs, w)
	out := make([]part, count)
	var f filter
	for k := range out {
		out[k].sum = make(trace, len(all[0].sum))
	}
	for _, p := range all {
		best, states, grows := 0, 0, int(^uint(0)>>1)
		for k := range out {
			if s := f.distinct(p.sum, out[k].sum); s-out[k].states < grows {
				best, states, grows = k, s, s-out[k].states
			}
		}
		out[best].join(p, states)
	}
	return lists(out)
}

// pair puts together small expressions only, so that a text that concerns one
// does not pay for many, nor for many states.
func (n *nfa) pair(exprs []uint32, w *scratch) [][]uint32 {
	type bin struct {
		part
		product int
	}
	var out []bin
	for _, p := range n.newParts(exprs, w) {
		states := max(2, p.states)
		at := slices.IndexFunc(out, func(b bin) bool { return b.product*states <= maxProduct })
		if at < 0 {
			out = append(out, bin{p, states})
			continue
		}
		out[at].exprs = append(out[at].exprs, p.exprs...)
		out[at].product *= states
	}
	parts := make([]part, len(out))
	for k := range out {
		parts[k] = out[k].part
	}
	return lists(parts)
}

// maxProduct bounds the states of expressions put together: all combinations.
const maxProduct = 256

func lists(parts []part) [][]uint32 {
	var out [][]uint32
	for _, p := range parts {
		if len(p.exprs) > 0 {
			out = append(out, p.exprs)
		}
	}
	return out
}
