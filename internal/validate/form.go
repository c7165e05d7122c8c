package validate

// checkForm reads application/x-www-form-urlencoded text, checks it as the
// object its schema describes and writes it afresh. An array is a repeated name;
// any other name may come once.
func (c *content) checkForm(text string, out *Body, f *faults) {
	pairs, bad := appendPairs(out.pairs[:0], text, true)
	out.pairs = pairs
	if bad != nil {
		f.addSyntax(inBody, "", bad.rule, bad.detail)
		return
	}
	var err error
	for _, guess := range [...]bool{false, true} {
		co := coercion{guess: guess}
		value, plain, ok := co.object(c.schema.shape, pairs)
		if !ok {
			f.addSyntax(inBody, co.name, co.rule, co.detail)
			return
		}
		if err = c.schema.validateValue(plain); err == nil {
			out.form, _ = value.(map[string]any)
			out.Bytes = appendForm(out.Bytes, pairs)
			return
		}
		if !co.any {
			break
		}
	}
	f.schema(inBody, "", err)
}

func appendForm(dst []byte, pairs []pair) []byte {
	for i, p := range pairs {
		if i > 0 {
			dst = append(dst, '&')
		}
		dst = append(appendQuery(dst, p.name), '=')
		dst = appendQuery(dst, p.value)
	}
	return dst
}
