package config

import (
	"errors"
	"fmt"

	"github.com/zerohop/zerohop"
)

// ParseOptions say how a document is read. The zero value is ready to use.
type ParseOptions struct {
	// Name is that of the document, for errors: most often the path of a file. One that ends in ".json" makes the document JSON;
	// any other is JSON if it is valid as such, and YAML if not.
	Name string
	// Expand returns the value of a variable, and whether there is one, as os.LookupEnv does. It makes ${NAME} in a value stand
	// for that value, ${NAME:-text} for text if there is none or it is empty, and $$ for a dollar sign; see the package comment.
	// nil means that nothing is expanded: dollar signs are what they are.
	Expand func(name string) (string, bool)
	// Check is what Parse checks the Spec with. nil means zerohop.Spec.Validate, which does not know the names in
	// zerohop.Config.Balancers and Checkers.
	Check func(zerohop.Spec) error
}

// Parse returns the Spec that a document of YAML or JSON holds, read and checked. A document without anything in it is the zero
// Spec.
//
// The error joins one *Error for each mistake, at most 50 of them: what is not valid YAML or JSON alone; or else all fields
// that do not exist or have the wrong type; or else all that Spec.Validate has to say. The Spec is the zero value then.
func Parse(data []byte, opts ParseOptions) (zerohop.Spec, error) { return parse(data, opts, true) }

func parse(data []byte, opts ParseOptions, mayBeEmpty bool) (zerohop.Spec, error) {
	d, err := Read(data, opts)
	if err == nil && !mayBeEmpty {
		err = d.refuseEmpty()
	}
	if err != nil {
		return zerohop.Spec{}, err
	}
	check := opts.Check
	if check == nil {
		check = zerohop.Spec.Validate
	}
	if err := check(d.Spec); err != nil {
		return zerohop.Spec{}, d.Explain(err)
	}
	return d.Spec, nil
}

// Read is Parse without the check of the Spec: it is for those who check it themselves and want to tell where a mistake is.
// The Document is nil if there is an error.
func Read(data []byte, opts ParseOptions) (*Document, error) {
	var spec zerohop.Spec
	d, err := Decode(data, opts, &spec)
	if err != nil {
		return nil, err
	}
	d.Spec = spec
	return d, nil
}

// maxMistakes bounds the mistakes that an error lists.
const maxMistakes = 50

// err returns the mistakes, or nil if there is none.
func (r *reader) err() error {
	if r.more > 0 {
		r.mistakes = append(r.mistakes, &Error{Name: r.name, Err: fmt.Errorf("and %d mistakes more", r.more)})
	}
	return errors.Join(r.mistakes...)
}
