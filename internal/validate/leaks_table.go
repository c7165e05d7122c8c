package validate

import "regexp"

// leakAhead is how far a pattern looks behind its trigger.
const leakAhead = 320

// A leakRule is one kind of leak.
type leakRule struct {
	name     string
	soft     bool // what some answers are meant to have: reported, never withheld
	triggers []leakTrigger
}

// A leakTrigger is a text that every leak of its kind contains, and the pattern
// that tells it from others. Patterns allow for JSON's escapes of quotes and
// slashes, and HTML's of quotes.
type leakTrigger struct {
	text    string
	back    int            // bytes in front of the text that the pattern looks at, too; 0: it begins there, at the start of a word
	pattern *regexp.Regexp // nil: the text alone is enough
	rule    int
}

func plainTriggers(texts ...string) []leakTrigger {
	out := make([]leakTrigger, len(texts))
	for i, t := range texts {
		out[i] = leakTrigger{text: t}
	}
	return out
}

func trigger(text string, back int, pattern string) leakTrigger {
	return leakTrigger{text: text, back: back, pattern: regexp.MustCompile(pattern)}
}

const (
	quote = `(?:\\?["'` + "`" + `]|&quot;|&#0?3[49];|’)`
	frame = `(?:\b|\\[tn])` // in front of "at": JSON writes a tab as \t, which ends in a letter
	// end closes a key: it is not the beginning of a longer one.
	end = `(?:[^0-9A-Za-z_-]|$)`
)

// leakTable is read-only.
var leakTable = []leakRule{
	{name: "stack_go", triggers: []leakTrigger{
		trigger("goroutine ", 0, `^goroutine \d+ \[[a-z][^\]\n"]{0,60}\]:`),
		trigger(".go:", 0, `^\.go:\d+ \+0x[0-9a-f]+`),
		trigger("runtime error: ", 0, `^runtime error: (?:index out of range|slice bounds out|invalid memory address|integer divide by zero|makeslice|hash of unhashable)`),
	}},
	{name: "stack_java", triggers: []leakTrigger{
		trigger(".java:", 200, frame+`at [\w.$<>/@]+\([\w$]+\.java:\d+\)`),
		trigger(".kt:", 200, frame+`at [\w.$<>/@]+\([\w$]+\.kt:\d+\)`),
		trigger(".scala:", 200, frame+`at [\w.$<>/@]+\([\w$]+\.scala:\d+\)`),
		trigger("Exception in thread ", 0, `^Exception in thread `+quote),
		trigger("Caused by: ", 0, `^Caused by: [a-z][\w$]*(?:\.[\w$]+)+(?:Exception|Error)\b`),
	}},
	{name: "stack_python", triggers: []leakTrigger{
		{text: "Traceback (most recent call last)"},
		trigger(", line ", 220, `File `+quote+`[^"\n]{1,200}\.py`+quote+`, line \d+, in `),
	}},
	{name: "stack_php", triggers: []leakTrigger{
		trigger(".php(", 0, `^\.php\(\d+\): [\w\\$:>{}-]+`),
		trigger(" on line ", 320, `(?:Fatal error|Parse error|Warning|Notice|Deprecated|Uncaught [\w\\]+)\b[^\n]{1,300}\.php(?:</b>|\\u003c\\?/b\\u003e)? on line `),
		{text: "PHP Fatal error: "},
	}},
	{name: "stack_dotnet", triggers: []leakTrigger{
		trigger(":line ", 320, frame+`at [\w.<>\[\],+\x60| ]+\([^)\n]{0,200}\) in [^\n"]{1,200}\.(?:cs|vb|fs):line \d+`),
		trigger("System.", 0, `^System\.(?:\w+\.){0,4}\w*Exception: `),
		{text: "Server Error in '/"},
		{text: "--- End of inner exception stack trace ---"},
	}},
	{name: "stack_node", triggers: []leakTrigger{
		trigger(".js:", 260, nodeFrame), trigger(".mjs:", 260, nodeFrame), trigger(".cjs:", 260, nodeFrame), trigger(".ts:", 260, nodeFrame),
		trigger("(node:internal/", 0, `^\(node:internal/[\w/-]+:\d+:\d+\)`),
	}},
	{name: "stack_ruby", triggers: []leakTrigger{
		trigger(".rb:", 0, `^\.rb:\d+:in `+quote+`[^"'\n]{1,100}`),
	}},
	{name: "stack_rust", triggers: []leakTrigger{
		trigger("panicked at ", 80, `thread '[^'\n]{1,60}' (?:\(\d+\) )?panicked at `),
	}},
	{name: "sql_error", triggers: append(
		plainTriggers(
			"You have an error in your SQL syntax", "check the manual that corresponds to your", "Unclosed quotation mark", "[Microsoft][ODBC", "com.mysql.jdbc", "com.mysql.cj.jdbc",
			"java.sql.SQL", "org.postgresql.util.PSQLException", "org.hibernate.exception", "mysql_fetch_", "mysqli_sql_exception", "pg_query(): ", "Dynamic SQL Error", "DB2 SQL error", "ER_PARSE_ERROR",
			"ER_NO_SUCH_TABLE", "ER_BAD_FIELD_ERROR", "SQLITE_ERROR", "System.Data.SqlClient.", "Microsoft.Data.SqlClient.", "sqlalchemy.exc.", "psycopg2.errors.", "django.db.utils.",
			"duplicate key value violates unique constraint", "violates foreign key constraint", "violates not-null constraint", "unterminated quoted string at or near", "PrismaClientKnownRequestError",
			"E11000 duplicate key error", "supplied argument is not a valid MySQL", "quoted string not properly terminated", "SQL command not properly ended",
		),
		trigger("SQLSTATE[", 0, `^SQLSTATE\[[0-9A-Z]{5}\]`),
		trigger("SQLSTATE", 0, `^SQLSTATE(?:: | |=)[0-9A-Z]{5}\b`),
		trigger("syntax error at or near ", 0, `^syntax error at or near `+quote),
		trigger("ORA-", 0, `^ORA-\d{5}: `),
		trigger("Incorrect syntax near ", 0, `^Incorrect syntax near `+quote),
		trigger("Invalid column name ", 0, `^Invalid column name '`),
		trigger(": syntax error", 80, `near `+quote+`[^\n]{0,60}`+quote+`: syntax error`),
		trigger("no such table: ", 0, `^no such table: \w`),
		trigger("no such column: ", 0, `^no such column: \w`),
		trigger("pq: ", 0, `^pq: (?:syntax error|relation|column|duplicate key|password authentication|invalid input)`),
		trigger("PG::", 0, `^PG::(?:\w+Error|\w+Violation|Undefined\w+)\b`),
		trigger("Duplicate entry '", 0, `^Duplicate entry '[^'\n]{0,200}' for key `),
		trigger("Unknown column '", 0, `^Unknown column '[^'\n]{1,100}' in '`),
		trigger("Table '", 0, `^Table '[\w.$-]{1,130}' doesn't exist`),
		trigger("relation ", 0, `^relation `+quote+`[\w."]{1,130}`+quote+` does not exist`),
	)},
	{name: "key_aws", triggers: []leakTrigger{
		trigger("AKIA", 0, `^AKIA[A-Z2-7]{16}`+end), trigger("ASIA", 0, `^ASIA[A-Z2-7]{16}`+end),
	}},
	{name: "key_google", triggers: []leakTrigger{
		trigger("AIza", 0, `^AIza[0-9A-Za-z_-]{35}`+end), trigger("GOCSPX-", 0, `^GOCSPX-[0-9A-Za-z_-]{28}`+end),
	}},
	{name: "key_github", triggers: []leakTrigger{
		trigger("ghp_", 0, githubToken), trigger("gho_", 0, githubToken), trigger("ghu_", 0, githubToken), trigger("ghs_", 0, githubToken), trigger("ghr_", 0, `^ghr_[0-9A-Za-z]{36,76}`+end),
		trigger("github_pat_", 0, `^github_pat_[0-9A-Za-z]{22}_[0-9A-Za-z]{59}`+end),
	}},
	{name: "key_slack", triggers: []leakTrigger{
		trigger("xox", 0, `^xox[abeprs]-[0-9A-Za-z]{1,16}-[0-9A-Za-z-]{10,}`), trigger("xapp-", 0, `^xapp-\d-[A-Z0-9]+-\d+-[0-9a-f]{16,}`),
		trigger("hooks.slack.com", 0, `^hooks\.slack\.com\\?/services\\?/T\w{8,}\\?/B\w{8,}\\?/\w{20,}`),
	}},
	{name: "key_stripe", triggers: []leakTrigger{
		trigger("sk_live_", 0, `^sk_live_[0-9A-Za-z]{20,}`), trigger("rk_live_", 0, `^rk_live_[0-9A-Za-z]{20,}`), trigger("whsec_", 0, `^whsec_[0-9A-Za-z+/]{32,}`),
	}},
	{name: "key_ai", triggers: []leakTrigger{
		trigger("sk-ant-", 0, `^sk-ant-[a-z]+\d\d-[\w-]{60,}`), trigger("sk-proj-", 0, `^sk-proj-[\w-]{60,}`),
	}},
	{name: "private_key", triggers: []leakTrigger{
		trigger("-----BEGIN ", 0, `^-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----`),
	}},
	{name: "password_hash", triggers: []leakTrigger{
		trigger("$2a$", 0, bcryptHash), trigger("$2b$", 0, bcryptHash), trigger("$2y$", 0, bcryptHash),
		trigger("$argon2", 0, `^\$argon2(?:id|i|d)\$(?:v=\d+\$)?m=\d+,t=\d+,p=\d+\$`), trigger("$scrypt$", 0, `^\$scrypt\$ln=\d+,r=\d+,p=\d+\$`),
		trigger("$6$", 0, `^\$6\$(?:rounds=\d+\$)?[./0-9A-Za-z]{1,16}\$[./0-9A-Za-z]{86}`), trigger("$5$", 0, `^\$5\$(?:rounds=\d+\$)?[./0-9A-Za-z]{1,16}\$[./0-9A-Za-z]{43}`),
		trigger("$y$", 0, `^\$y\$[./0-9A-Za-z]+\$[./0-9A-Za-z]{1,86}\$[./0-9A-Za-z]{43}`), trigger("pbkdf2_sha", 0, `^pbkdf2_sha(?:1|256|512)\$\d+\$[^$\n]{1,64}\$`),
		trigger("{SSHA", 0, `^\{SSHA(?:256|512)?\}[0-9A-Za-z+/=]{28,}`),
	}},
	{name: "system_file", triggers: plainTriggers("root:x:0:0:", "root:*:0:0:", "[boot loader]")},
	{name: "jwt", soft: true, triggers: []leakTrigger{
		trigger("eyJ", 0, `^eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{16,}`),
	}},
	{name: "internal_address", soft: true, triggers: []leakTrigger{
		trigger("10.", 0, `^10`+octet+octet+octet+`\b`), trigger("192.168.", 0, `^192\.168`+octet+octet+`\b`),
		trigger("172.", 0, `^172\.(?:1[6-9]|2\d|3[01])`+octet+octet+`\b`),
		{text: "169.254.169.254"},
		trigger(".svc.cluster.local", 100, `[\w.-]+\.svc\.cluster\.local`), trigger(".compute.internal", 100, `ip-[\w.-]+\.compute\.internal`),
	}},
}

const (
	nodeFrame   = frame + `at (?:async )?(?:new )?(?:[\w.$<>\[\]]+ (?:\[as \w+\] )?\()?(?:file:|node:|[A-Z]:\\|/|\\/)[^\s()"]{0,200}\.[mc]?[jt]s:\d+:\d+`
	githubToken = `^gh[pous]_[0-9A-Za-z]{36}` + end
	bcryptHash  = `^\$2[aby]\$\d\d\$[./0-9A-Za-z]{53}`
	octet       = `\.(?:25[0-5]|2[0-4]\d|1?\d?\d)`
)
