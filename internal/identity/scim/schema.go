package scim

import "strings"

const (
	userURN       = "urn:ietf:params:scim:schemas:core:2.0:User"
	enterpriseURN = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
	groupURN      = "urn:ietf:params:scim:schemas:core:2.0:Group"
	listURN       = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
	patchURN      = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
	errorURN      = "urn:ietf:params:scim:api:messages:2.0:Error"
)

// A kind is an attribute's type (RFC 7643 §2.3). The zero kind is text.
type kind uint8

const (
	text kind = iota
	boolean
	moment
	reference
	complexKind
)

func (k kind) String() string {
	return [...]string{"string", "boolean", "dateTime", "reference", "complex"}[k]
}

// An attribute is one row of a schema (RFC 7643 §7). Its zero flags are those of
// most attributes: optional, singular, readWrite, returned by default, not unique.
type attribute struct {
	name      string
	kind      kind
	many      bool
	required  bool
	exact     bool // compared with case
	readOnly  bool
	writeOnly bool // and never returned
	always    bool // returned whatever was asked for
	unique    bool
	about     string
	refers    []string // what a reference leads to
	sub       []attribute
}

// A schema is what a resource, or an extension of one, consists of.
type schema struct {
	urn, name, about string
	attributes       []attribute
}

// A resourceType is an endpoint.
type resourceType struct {
	name, path, about string
	core              *schema
	extensions        []*schema
}

// common are the attributes of every resource (RFC 7643 §3.1).
func common() []attribute {
	return []attribute{
		{name: "id", exact: true, readOnly: true, always: true, unique: true, about: "Never used again."},
		{name: "externalId", exact: true, about: "The client's own identifier."},
		{name: "meta", kind: complexKind, readOnly: true, about: "What the server knows of the resource.", sub: []attribute{
			{name: "resourceType", exact: true, readOnly: true},
			{name: "created", kind: moment, readOnly: true},
			{name: "lastModified", kind: moment, readOnly: true},
			{name: "location", kind: reference, exact: true, readOnly: true, refers: []string{"uri"}},
			{name: "version", exact: true, readOnly: true},
		}},
	}
}

// plural are the sub-attributes of most multi-valued attributes (RFC 7643 §2.4).
func plural(more ...attribute) []attribute {
	return append(more,
		attribute{name: "value"}, attribute{name: "display"}, attribute{name: "type"},
		attribute{name: "primary", kind: boolean, about: "At most one value has it."})
}

func texts(names ...string) []attribute {
	out := make([]attribute, len(names))
	for i, n := range names {
		out[i].name = n
	}
	return out
}

func newUserType() *resourceType {
	return &resourceType{
		name: "User", path: "/Users", about: "People who sign in.",
		core: &schema{userURN, "User", "A user account.", []attribute{
			{name: "userName", required: true, unique: true, about: "The login name; kept in its one canonical spelling."},
			{name: "name", kind: complexKind, about: "The parts of the name.", sub: texts("formatted", "familyName", "givenName", "middleName", "honorificPrefix", "honorificSuffix")},
			{name: "displayName", about: "The claim name."},
			{name: "nickName", about: "The claim nickname."},
			{name: "profileUrl", kind: reference, refers: []string{"external"}, about: "The claim profile."},
			{name: "title"},
			{name: "userType"},
			{name: "preferredLanguage"},
			{name: "locale", about: "The claim locale."},
			{name: "timezone", about: "The claim zoneinfo."},
			{name: "active", kind: boolean, about: "False locks: the sessions end and the tokens die."},
			{name: "password", writeOnly: true, about: "Set, never returned."},
			{name: "emails", kind: complexKind, many: true, about: "The primary one, or the first, is the user's address here.", sub: plural()},
			{name: "phoneNumbers", kind: complexKind, many: true, sub: plural()},
			{name: "addresses", kind: complexKind, many: true, sub: append(texts("formatted", "streetAddress", "locality", "region", "postalCode", "country", "type"),
				attribute{name: "primary", kind: boolean})},
			{name: "groups", kind: complexKind, many: true, readOnly: true, about: "Changed through the groups.", sub: []attribute{
				{name: "value", exact: true, readOnly: true},
				{name: "$ref", kind: reference, exact: true, readOnly: true, refers: []string{"Group"}},
				{name: "display", readOnly: true},
			}},
		}},
		extensions: []*schema{{enterpriseURN, "EnterpriseUser", "What a company knows of a user.", append(
			texts("employeeNumber", "costCenter", "organization", "division", "department"),
			attribute{name: "manager", kind: complexKind, sub: []attribute{
				{name: "value", exact: true},
				{name: "$ref", kind: reference, exact: true, refers: []string{"User"}},
				{name: "displayName", readOnly: true},
			}},
		)}},
	}
}

func newGroupType() *resourceType {
	return &resourceType{
		name: "Group", path: "/Groups", about: "Groups of users, which give them roles.",
		core: &schema{groupURN, "Group", "A group of users.", []attribute{
			{name: "displayName", required: true, unique: true, exact: true},
			{name: "members", kind: complexKind, many: true, about: "Users; groups in groups are not supported.", sub: []attribute{
				{name: "value", exact: true, about: "The user's id."},
				{name: "$ref", kind: reference, exact: true, refers: []string{"User"}},
				{name: "type"},
				{name: "display", readOnly: true},
			}},
		}},
	}
}

// find returns the attribute of that name, in any case (RFC 7643 §2.1).
func find(attributes []attribute, name string) *attribute {
	for i := range attributes {
		if strings.EqualFold(attributes[i].name, name) {
			return &attributes[i]
		}
	}
	return nil
}

// A place is an attribute in a resource: in an extension, of the resource itself,
// or of a value inside one of its attributes.
type place struct {
	extension string // URN; "" for the resource itself
	attr      *attribute
	sub       *attribute // nil: the whole of attr
}

// leaf is the attribute that is compared or written.
func (p place) leaf() *attribute {
	if p.sub != nil {
		return p.sub
	}
	return p.attr
}

func (p place) readOnly() bool { return p.attr.readOnly || p.sub != nil && p.sub.readOnly }

// in returns the part of the resource where attr is; nil when there is none.
func (p place) in(resource map[string]any) map[string]any {
	if p.extension == "" {
		return resource
	}
	m, _ := resource[p.extension].(map[string]any)
	return m
}

// place finds what [URN ":"] attribute ["." sub] names (RFC 7644 §3.10). A place
// whose attr is nil is a whole extension.
func (rt *resourceType) place(name string) (p place, ok bool) {
	attributes := append(common(), rt.core.attributes...)
	if rest, found := cutFold(name, rt.core.urn); found && rest != "" {
		name = rest
	} else {
		for _, x := range rt.extensions {
			if rest, found := cutFold(name, x.urn); found {
				if rest == "" {
					return place{extension: x.urn}, true
				}
				p.extension, attributes, name = x.urn, x.attributes, rest
				break
			}
		}
	}
	name, sub, dotted := strings.Cut(name, ".")
	p.attr = find(attributes, name)
	for i := 0; p.attr == nil && p.extension == "" && i < len(rt.extensions); i++ { // Entra asks for manager
		if p.attr = find(rt.extensions[i].attributes, name); p.attr != nil {
			p.extension = rt.extensions[i].urn
		}
	}
	if p.attr == nil {
		return place{}, false
	}
	if dotted {
		if p.sub = find(p.attr.sub, sub); p.sub == nil {
			return place{}, false
		}
	}
	return p, true
}

// cutFold cuts urn and the colon after it off name.
func cutFold(name, urn string) (rest string, found bool) {
	if len(name) < len(urn) || !strings.EqualFold(name[:len(urn)], urn) {
		return "", false
	}
	if len(name) == len(urn) {
		return "", true
	}
	return name[len(urn)+1:], name[len(urn)] == ':' && len(name) > len(urn)+1
}
