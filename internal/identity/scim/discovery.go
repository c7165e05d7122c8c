package scim

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/gatehouse-api/gatehouse/internal/identity"
)

// describe answers /ServiceProviderConfig, /ResourceTypes and /Schemas (RFC 7644
// §4). They take no filter: who could ask them something would learn nothing.
func (h *handler) describe(w http.ResponseWriter, r *http.Request, name, id string, query url.Values) error {
	types := []*resourceType{h.users, h.groups}
	var list []any
	find := func(string) any { return nil }
	switch name {
	case "ServiceProviderConfig":
		if id != "" {
			return identity.ErrUnknown
		}
	case "ResourceTypes":
		for _, rt := range types {
			list = append(list, h.typeDocument(rt))
		}
		find = func(id string) any {
			for i, rt := range types {
				if rt.name == id {
					return list[i]
				}
			}
			return nil
		}
	case "Schemas":
		byURN := map[string]any{}
		for _, rt := range types {
			for _, s := range append([]*schema{rt.core}, rt.extensions...) {
				doc := h.schemaDocument(s)
				list, byURN[s.urn] = append(list, doc), doc
			}
		}
		find = func(id string) any { return byURN[id] }
	default:
		return identity.ErrUnknown
	}
	switch {
	case r.Method != http.MethodGet:
		return notAllowed(w, "GET")
	case query.Has("filter"):
		return &fault{http.StatusForbidden, "", "There is no filter here."}
	case name == "ServiceProviderConfig":
		return write(w, http.StatusOK, h.providerDocument())
	case id != "":
		doc := find(id)
		if doc == nil {
			return identity.ErrUnknown
		}
		return write(w, http.StatusOK, doc)
	}
	return write(w, http.StatusOK, listOf(list, len(list), 1))
}

// providerDocument is RFC 7643 §5.
func (h *handler) providerDocument() map[string]any {
	supported := func(yes bool) map[string]any { return map[string]any{"supported": yes} }
	return map[string]any{
		"schemas":        []any{"urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"},
		"patch":          supported(true),
		"bulk":           map[string]any{"supported": false, "maxOperations": 0, "maxPayloadSize": 0},
		"filter":         map[string]any{"supported": true, "maxResults": maxCount},
		"changePassword": supported(h.cfg.Passwords),
		"sort":           supported(false),
		"etag":           supported(true),
		"authenticationSchemes": []any{map[string]any{
			"type": "oauthbearertoken", "name": "OAuth Bearer Token", "description": "An access token or an API key in the Authorization header.",
			"specUri": "https://www.rfc-editor.org/info/rfc6750", "primary": true,
		}},
		"meta": map[string]any{"resourceType": "ServiceProviderConfig", "location": h.cfg.Base + "/ServiceProviderConfig"},
	}
}

// typeDocument is RFC 7643 §6.
func (h *handler) typeDocument(rt *resourceType) map[string]any {
	doc := map[string]any{
		"schemas": []any{"urn:ietf:params:scim:schemas:core:2.0:ResourceType"},
		"id":      rt.name, "name": rt.name, "endpoint": rt.path, "description": rt.about, "schema": rt.core.urn,
		"meta": map[string]any{"resourceType": "ResourceType", "location": h.cfg.Base + "/ResourceTypes/" + rt.name},
	}
	var extensions []any
	for _, x := range rt.extensions {
		extensions = append(extensions, map[string]any{"schema": x.urn, "required": false})
	}
	if extensions != nil {
		doc["schemaExtensions"] = extensions
	}
	return doc
}

// schemaDocument is RFC 7643 §7.
func (h *handler) schemaDocument(s *schema) map[string]any {
	return map[string]any{
		"schemas": []any{"urn:ietf:params:scim:schemas:core:2.0:Schema"},
		"id":      s.urn, "name": s.name, "description": s.about, "attributes": attributeDocuments(s.attributes),
		"meta": map[string]any{"resourceType": "Schema", "location": h.cfg.Base + "/Schemas/" + s.urn},
	}
}

func attributeDocuments(list []attribute) []any {
	out := make([]any, 0, len(list))
	for i := range list {
		a := &list[i]
		doc := map[string]any{
			"name": a.name, "type": a.kind.String(), "multiValued": a.many, "description": a.about, "required": a.required,
			"mutability": "readWrite", "returned": "default",
		}
		if a.readOnly {
			doc["mutability"] = "readOnly"
		}
		if a.writeOnly {
			doc["mutability"], doc["returned"] = "writeOnly", "never"
		}
		if a.always {
			doc["returned"] = "always"
		}
		if a.kind == text || a.kind == reference {
			doc["caseExact"], doc["uniqueness"] = a.exact, "none"
			if a.unique {
				doc["uniqueness"] = "server"
			}
		}
		if a.refers != nil {
			doc["referenceTypes"] = a.refers
		}
		if a.sub != nil {
			doc["subAttributes"] = attributeDocuments(a.sub)
		}
		if a.about == "" {
			doc["description"] = strings.ToUpper(a.name[:1]) + a.name[1:] + "."
		}
		out = append(out, doc)
	}
	return out
}
