package seclang

import (
	"maps"
	"slices"
	"strings"

	"github.com/gatehouse-api/gatehouse/internal/config"
)

// A vocabulary is the words of one kind that are known, and what is to be known
// of each.
type vocabulary[T any] map[string]T

// meant is the tail of an error about a word that is not in v.
func (v vocabulary[T]) meant(word string) string {
	return config.DidYouMean(word, slices.Sorted(maps.Keys(v)))
}

// A collection is what of a message rules look at.
type collection struct {
	selectable bool // members have names: ARGS:q
	exactCase  bool // names as written count; else they are compared in lower case
}

// collections returns the variables Coraza 3.8.1 knows, by their name in upper
// case.
func collections() vocabulary[collection] {
	v := vocabulary[collection]{}
	for name := range strings.FieldsSeq(`response_content_type unique_id args_combined_size files_combined_size
		full_request_length inbound_data_error matched_var matched_var_name multipart_data_after outbound_data_error
		query_string remote_addr remote_host remote_port reqbody_error reqbody_error_msg reqbody_processor_error
		reqbody_processor_error_msg reqbody_processor request_basename request_body request_body_length
		request_filename request_line request_method request_protocol request_uri request_uri_raw response_body
		response_content_length response_protocol response_status server_addr server_name server_port
		highest_severity status_line duration multipart_duplicate_part_header res_body_processor urlencoded_error
		res_body_error res_body_error_msg res_body_processor_error res_body_processor_error_msg time time_day
		time_epoch time_hour time_min time_mon time_sec time_wday time_year auth_type full_request
		multipart_boundary_quoted multipart_boundary_whitespace multipart_crlf_lf_lines multipart_data_before
		multipart_file_limit_exceeded multipart_header_folding multipart_invalid_header_folding
		multipart_invalid_part multipart_invalid_quoting multipart_lf_line multipart_missing_semicolon
		multipart_strict_error multipart_unmatched_boundary path_info uri_parse_error arguments_limit_reached`) {
		v[strings.ToUpper(name)] = collection{}
	}
	for name := range strings.FieldsSeq(`response_headers_names request_headers_names args_path files_sizes files_names
		multipart_filename multipart_name multipart_filename_charset multipart_filename_language matched_vars_names
		matched_vars files request_cookies request_headers response_headers request_cookies_names tx rule xml
		multipart_part_headers`) {
		v[strings.ToUpper(name)] = collection{selectable: true}
	}
	for name := range strings.FieldsSeq("args args_names args_get args_post args_get_names args_post_names") {
		v[strings.ToUpper(name)] = collection{selectable: true, exactCase: true}
	}
	return v
}

// An operand says how the argument of an operator is written.
type operand int

const (
	operandNone  operand = iota // there is none
	operandText                 // any text
	operandMacro                // text that may hold %{} macros
	operandRx                   // a regular expression
	operandFile                 // the name of a file
)

// operators returns the operators rules may use, by their exact name.
func operators() vocabulary[operand] {
	return vocabulary[operand]{
		"rx": operandRx, "pm": operandText, "pmFromFile": operandFile, "pmf": operandFile,
		"contains": operandMacro, "containsWord": operandMacro, "within": operandMacro, "streq": operandMacro,
		"strmatch": operandMacro, "beginsWith": operandMacro, "endsWith": operandMacro,
		"eq": operandMacro, "ge": operandMacro, "gt": operandMacro, "le": operandMacro, "lt": operandMacro,
		"ipMatch": operandText, "ipMatchFromFile": operandFile, "ipMatchF": operandFile,
		"validateByteRange": operandText, "validateUtf8Encoding": operandNone, "validateUrlEncoding": operandNone,
		"detectSQLi": operandNone, "detectXSS": operandNone, "unconditionalMatch": operandNone, "noMatch": operandNone,
	}
}

// transformations returns the spelling the rest of the house uses of each
// transformation, by its name in lower case.
func transformations() vocabulary[string] {
	v := vocabulary[string]{"normalizepath": "normalisePath", "normalizepathwin": "normalisePathWin"}
	for name := range strings.FieldsSeq(`base64Decode base64DecodeExt base64Encode cmdLine compressWhitespace cssDecode
		escapeSeqDecode hexDecode hexEncode htmlEntityDecode jsDecode length lowercase md5 none normalisePath
		normalisePathWin removeComments removeCommentsChar removeNulls removeWhitespace replaceComments replaceNulls
		sha1 trim trimLeft trimRight uppercase urlDecode urlDecodeUni urlEncode utf8toUnicode`) {
		v[strings.ToLower(name)] = name
	}
	return v
}

// directives are those that are read.
const directives = "SecRule SecAction SecMarker SecDefaultAction SecRuleRemoveById SecRuleRemoveByTag" +
	" SecRuleRemoveByMsg SecRuleUpdateTargetById SecRuleUpdateTargetByTag SecRuleUpdateActionById" +
	" SecComponentSignature SecCollectionTimeout"

// A kind is when an action takes effect.
type kind int

const (
	kindMeta    kind = iota // says what the rule is
	kindMatch               // is done for each value that matches
	kindFlow                // is done when the whole chain matched
	kindDecides             // one for a rule: what becomes of the message
	kindNo                  // is known, but not supported
)

// actions returns the actions of rules by their name in lower case.
func actions() vocabulary[kind] {
	return vocabulary[kind]{
		"id": kindMeta, "phase": kindMeta, "msg": kindMeta, "severity": kindMeta, "tag": kindMeta, "ver": kindMeta,
		"rev": kindMeta, "maturity": kindMeta, "accuracy": kindMeta,
		"t": kindMatch, "capture": kindMatch, "multimatch": kindMatch, "setvar": kindMatch, "ctl": kindMatch,
		"log": kindMatch, "nolog": kindMatch, "auditlog": kindMatch, "noauditlog": kindMatch, "logdata": kindMatch,
		"status": kindMatch, "initcol": kindMatch,
		"chain": kindFlow, "skip": kindFlow, "skipafter": kindFlow,
		"pass": kindDecides, "block": kindDecides, "deny": kindDecides, "drop": kindDecides, "allow": kindDecides,
		"redirect": kindNo, "exec": kindNo, "expirevar": kindNo, "setenv": kindNo, "append": kindNo, "prepend": kindNo,
		"proxy": kindNo, "pause": kindNo, "deprecatevar": kindNo, "setuid": kindNo, "setsid": kindNo, "setrsc": kindNo,
		"sanitisearg": kindNo, "sanitisematched": kindNo, "sanitisematchedbytes": kindNo, "xmlns": kindNo,
	}
}

// controls returns what the action ctl can change, by its exact name, and whether
// it takes a target.
func controls() vocabulary[bool] {
	return vocabulary[bool]{
		"ruleRemoveById": false, "ruleRemoveByTag": false, "ruleRemoveByMsg": false,
		"ruleRemoveTargetById": true, "ruleRemoveTargetByTag": true, "ruleRemoveTargetByMsg": true,
		"requestBodyProcessor": false, "forceRequestBodyVariable": false,
		"ruleEngine": false, "auditEngine": false, "auditLogParts": false,
	}
}

// refused returns the directives that exist but are not read, and what to do
// instead.
func refused() vocabulary[string] {
	const (
		remove = "remove it"
		yaml   = "say it in gatehouse.yaml and remove it here"
		own    = "Gatehouse keeps its own log; remove it"
	)
	v := vocabulary[string]{
		"include":                        "name each file in gatehouse.yaml",
		"includeoptional":                "name each file in gatehouse.yaml",
		"secruleengine":                  yaml,
		"secrequestbodyaccess":           "a body is always looked at; remove it",
		"secrequestbodylimit":            yaml,
		"secrequestbodynofileslimit":     yaml,
		"secrequestbodyinmemorylimit":    yaml,
		"secrequestbodylimitaction":      "a body beyond its limit is always refused; remove it",
		"secrequestbodyjsondepthlimit":   yaml,
		"secargumentslimit":              yaml,
		"secresponsebodyaccess":          yaml,
		"secresponsebodylimit":           yaml,
		"secresponsebodylimitaction":     yaml,
		"secresponsebodymimetype":        yaml,
		"secresponsebodymimetypesclear":  yaml,
		"secresponsebodyjsondepthlimit":  yaml,
		"secdataset":                     "write the words behind @pm",
		"secremoterules":                 "rules are files on this machine; fetch them before they are loaded",
		"secremoterulesfailaction":       remove,
		"secrulescript":                  "scripts are not run; write a SecRule",
		"secignorerulecompilationerrors": "a rule that can not be read is never left out; remove it",
		"secruleupdatetargetbymsg":       "use SecRuleUpdateTargetById or SecRuleUpdateTargetByTag",
		"secargumentseparator":           "arguments are separated by &; remove it",
		"seccookieformat":                "cookies are read as RFC 6265 says; remove it",
	}
	for name := range strings.FieldsSeq(`secauditengine secauditlog secauditlog2 secauditlogtype secauditlogformat
		secauditlogstoragedir secauditlogdirmode secauditlogfilemode secauditlogrelevantstatus secauditlogparts
		secdebuglog secdebugloglevel secguardianlog`) {
		v[name] = own
	}
	for name := range strings.FieldsSeq(`secwebappid secserversignature secsensorid secconnwritestatelimit
		secconnreadstatelimit secpcrematchlimitrecursion secpcrematchlimit sechttpblkey secgsblookupdb sechashmethodpm
		sechashmethodrx sechashparam sechashkey sechashengine secconnengine secdatadir secuploadkeepfiles
		secuploadfilemode secuploadfilelimit secuploaddir secrxprefilter secruleperftime secunicodemap
		secunicodemapfile sectmpdir secgeolookupdb secstreaminbodyinspection secstreamoutbodyinspection
		secchrootdir secinterceptonerror secxmlexternalentity secdisablebackendcompression seccacheengine
		seccontentinjection secstatusengine`) {
		v[name] = remove
	}
	return v
}
