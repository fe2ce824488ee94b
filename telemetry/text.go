package telemetry

import (
	"regexp"
	"strings"
	"unicode"
)

// maxRedacted is how much of a text is searched for secrets, in bytes; of what is kept, less is.
const maxRedacted = 1024

// inURL finds URLs, with those parts that may be secret: user and password, and query and fragment.
var inURL = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)([^\s?#"']*@)?([^\s?#"']*)([?#][^\s"']*)?`)

// textOfError returns the text of an error, fit to be reported: errors quote what servers say, and URLs.
func textOfError(err error) string {
	if err == nil {
		return ""
	}
	return redacted(err.Error())
}

// redacted makes text from outside fit to be reported: it is cut, of one line, and its URLs are without user, password, query and
// fragment.
func redacted(text string) string {
	if len(text) > maxRedacted {
		text = text[:maxRedacted]
	}
	if strings.Contains(text, "://") {
		text = inURL.ReplaceAllString(text, "$1$3")
	}
	return printable(text)
}

// printable makes text from outside valid, cuts it, and replaces what steers terminals.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, clean(text))
}
