package jsonschema

import (
	"bytes"
	"math"
	"math/big"
	"math/bits"
)

// decimalParts are the pieces of a number literal.
type decimalParts struct {
	neg        bool
	hasExp     bool
	intPart    []byte
	frac       []byte
	literalExp int // clipped at ±1e9
}

func splitNumber(lit []byte) decimalParts {
	var d decimalParts
	if len(lit) > 0 && lit[0] == '-' {
		d.neg, lit = true, lit[1:]
	}
	if e := bytes.IndexAny(lit, "eE"); e >= 0 {
		d.hasExp = true
		exp := lit[e+1:]
		neg := false
		if exp[0] == '+' || exp[0] == '-' {
			neg, exp = exp[0] == '-', exp[1:]
		}
		for _, c := range exp {
			if d.literalExp < 1e8 {
				d.literalExp = d.literalExp*10 + int(c-'0')
			}
		}
		if neg {
			d.literalExp = -d.literalExp
		}
		lit = lit[:e]
	}
	d.intPart, d.frac, _ = bytes.Cut(lit, []byte("."))
	return d
}

func (d *decimalParts) zero() bool {
	return len(bytes.TrimLeft(d.intPart, "0")) == 0 && len(bytes.TrimLeft(d.frac, "0")) == 0
}

// magnitude is the power of ten of the first digit that is not zero.
func (d *decimalParts) magnitude() int {
	if n := len(bytes.TrimLeft(d.intPart, "0")); n > 0 {
		return n - 1 + d.literalExp
	}
	if rest := bytes.TrimLeft(d.frac, "0"); len(rest) > 0 {
		return d.literalExp - (len(d.frac) - len(rest)) - 1
	}
	return 0
}

// A decimal is an exact number: (-1)^neg · mant · 10^exp, mant without trailing
// zeros; wide holds the mantissa when it needs more than 64 bits. No float is
// ever compared: 0.1 + 0.2 must not decide who gets in.
type decimal struct {
	mant uint64
	wide *big.Int
	exp  int
	neg  bool
}

func parseDecimal(lit []byte) decimal {
	// The common case, a short integer, without splitting.
	if len(lit) < 19 {
		var v uint64
		i := 0
		if lit[0] == '-' {
			i = 1
		}
		k := i
		for ; k < len(lit) && lit[k]-'0' <= 9; k++ {
			v = v*10 + uint64(lit[k]-'0')
		}
		if k == len(lit) {
			return decimal{mant: v, neg: i == 1}.normal()
		}
	}
	p := splitNumber(lit)
	d := decimal{neg: p.neg, exp: p.literalExp - len(p.frac)}
	intPart, frac := bytes.TrimLeft(p.intPart, "0"), p.frac
	if len(intPart) == 0 {
		frac = bytes.TrimLeft(frac, "0")
	}
	if len(intPart)+len(frac) < 20 {
		for _, c := range intPart {
			d.mant = d.mant*10 + uint64(c-'0')
		}
		for _, c := range frac {
			d.mant = d.mant*10 + uint64(c-'0')
		}
		return d.normal()
	}
	digits := bytes.TrimRight(append(append([]byte(nil), intPart...), frac...), "0")
	d.exp += len(intPart) + len(frac) - len(digits)
	d.wide, _ = new(big.Int).SetString("0"+string(digits), 10)
	if d.wide.IsUint64() {
		d.mant, d.wide = d.wide.Uint64(), nil
	}
	return d.normal()
}

func (d decimal) normal() decimal {
	if d.wide != nil {
		return d
	}
	if d.mant == 0 {
		return decimal{}
	}
	for d.mant%10 == 0 {
		d.mant /= 10
		d.exp++
	}
	return d
}

func (d decimal) integer() bool { return d.exp >= 0 }

func (d decimal) equal(o decimal) bool {
	if d.neg != o.neg || d.exp != o.exp || (d.wide == nil) != (o.wide == nil) {
		return false
	}
	if d.wide != nil {
		return d.wide.Cmp(o.wide) == 0
	}
	return d.mant == o.mant
}

func (d decimal) sign() int {
	switch {
	case d.wide == nil && d.mant == 0:
		return 0
	case d.neg:
		return -1
	}
	return 1
}

// cmp compares exactly.
func (d decimal) cmp(o decimal) int {
	if s, t := d.sign(), o.sign(); s != t {
		if s < t {
			return -1
		}
		return 1
	} else if s < 0 {
		return -d.cmpAbs(o)
	}
	return d.cmpAbs(o)
}

func (d decimal) cmpAbs(o decimal) int {
	if d.wide == nil && o.wide == nil {
		a, okA := scale(d.mant, d.exp-min(d.exp, o.exp))
		b, okB := scale(o.mant, o.exp-min(d.exp, o.exp))
		if okA && okB {
			switch {
			case a < b:
				return -1
			case a > b:
				return 1
			}
			return 0
		}
	}
	// Different magnitudes decide without big numbers.
	if m, n := d.digits()+d.exp, o.digits()+o.exp; d.sign() != 0 && o.sign() != 0 && m != n {
		if m < n {
			return -1
		}
		return 1
	}
	low := min(d.exp, o.exp)
	return d.big(low).Cmp(o.big(low))
}

func (d decimal) digits() int {
	if d.wide != nil {
		return len(d.wide.String())
	}
	n := 0
	for v := d.mant; v > 0; v /= 10 {
		n++
	}
	return n
}

// big returns |d| / 10^low as an integer; low is at most d.exp.
func (d decimal) big(low int) *big.Int {
	m := d.wide
	if m == nil {
		m = new(big.Int).SetUint64(d.mant)
	}
	if d.exp == low {
		return m
	}
	ten := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(d.exp-low)), nil)
	return ten.Mul(ten, m)
}

// scale returns m · 10^k while it fits.
func scale(m uint64, k int) (uint64, bool) {
	if k > 19 {
		return 0, m == 0
	}
	for range k {
		hi, lo := bits.Mul64(m, 10)
		if hi != 0 {
			return 0, false
		}
		m = lo
	}
	return m, true
}

// multipleOf reports whether d is a whole multiple of m, which is above zero.
func (d decimal) multipleOf(m decimal) bool {
	if d.sign() == 0 {
		return true
	}
	low := min(d.exp, m.exp)
	if d.wide == nil && m.wide == nil {
		a, okA := scale(d.mant, d.exp-low)
		b, okB := scale(m.mant, m.exp-low)
		if okA && okB {
			return a%b == 0
		}
	}
	return new(big.Int).Rem(d.big(low), m.big(low)).Sign() == 0
}

// int64 reports d as an int64 when it is one.
func (d decimal) int64() (int64, bool) {
	if !d.integer() || d.wide != nil {
		return 0, false
	}
	v, ok := scale(d.mant, d.exp)
	switch {
	case !ok:
		return 0, false
	case d.neg && v <= 1<<63:
		return -int64(v), true
	case !d.neg && v <= math.MaxInt64:
		return int64(v), true
	}
	return 0, false
}
