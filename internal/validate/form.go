package validate

// checkForm reads application/x-www-form-urlencoded text, checks it as the
// object its schema describes and writes it afresh. An array is a repeated name;
// any other name may come once.
func (c *content) checkForm(dst []byte, text string, f *faults) (out []byte, values map[string]any) {
	pairs, bad := appendPairs(nil, text, true)
	if bad != nil {
		f.addSyntax(inBody, "", bad.rule, bad.detail)
		return dst, nil
	}
	var err error
	for _, guess := range [...]bool{false, true} {
		co := coercion{guess: guess}
		value, plain, ok := co.object(c.schema.shape, pairs)
		if !ok {
			f.addSyntax(inBody, co.name, co.rule, co.detail)
			return dst, nil
		}
		if err = c.schema.validateValue(plain); err == nil {
			values, _ = value.(map[string]any)
			return appendForm(dst, pairs), values
		}
		if !co.any {
			break
		}
	}
	f.schema(inBody, "", err)
	return dst, nil
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
