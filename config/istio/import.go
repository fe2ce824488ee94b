package istio

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"istio.io/api/networking/v1alpha3"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/config/importing"
)

// versions are those that have the same types.
var versions = []string{"v1", "v1beta1", "v1alpha3"}

// Import turns the VirtualServices and DestinationRules in docs, YAML or JSON with any number of documents, into a Spec. Objects of
// other kinds are skipped. The error joins every mistake, such as fields that do not exist. The Spec is valid if there is none.
func Import(docs []byte, opts importing.Options) (zerohop.Spec, importing.Report, error) {
	all, err := importing.Documents(docs, opts)
	if err != nil {
		return zerohop.Spec{}, importing.Report{}, err
	}
	im := &importer{Importer: importing.NewImporter(opts), subsets: map[subsetKey]*subset{}}
	im.rules = importing.NewRules(im.Importer, &im.spec)
	var routes []*object[*v1alpha3.VirtualService]
	var destinations []*object[*v1alpha3.DestinationRule]
	for i := range all {
		d := &all[i]
		im.Begin(d)
		switch known := im.known(d); {
		case known && d.Kind == "VirtualService":
			routes = append(routes, read(im, d, new(v1alpha3.VirtualService)))
		case known:
			destinations = append(destinations, read(im, d, new(v1alpha3.DestinationRule)))
		}
	}
	sortByAge(destinations)
	for _, o := range destinations {
		im.Begin(o.doc)
		im.destinationRule(o.doc, o.spec)
		im.rest(o.spec.ProtoReflect(), "spec", why)
	}
	sortByAge(routes)
	for _, o := range routes {
		im.Begin(o.doc)
		im.virtualService(o.doc, o.spec)
		im.rest(o.spec.ProtoReflect(), "spec", why)
	}
	im.unused()
	im.rules.Close(true)
	report, err := im.Finish()
	if err == nil {
		err = im.spec.Validate()
	}
	if err != nil {
		return zerohop.Spec{}, report, err
	}
	return im.spec, report, nil
}

type importer struct {
	*importing.Importer
	spec    zerohop.Spec
	rules   *importing.Rules
	subsets map[subsetKey]*subset
}

// object is a document with its type.
type object[T any] struct {
	doc  *importing.Document
	spec T
}

func sortByAge[T any](objects []*object[T]) {
	slices.SortStableFunc(objects, func(a, b *object[T]) int {
		return cmp.Or(a.doc.Created.Compare(b.doc.Created), strings.Compare(a.doc.Namespace+"/"+a.doc.Name, b.doc.Namespace+"/"+b.doc.Name))
	})
}

// known reports whether the document is one to import, and notes it.
func (im *importer) known(d *importing.Document) bool {
	group, version, _ := strings.Cut(d.APIVersion, "/")
	if group != "networking.istio.io" || d.Kind != "VirtualService" && d.Kind != "DestinationRule" {
		im.Report.Skipped = append(im.Report.Skipped, d.Object)
		return false
	}
	im.Report.Imported = append(im.Report.Imported, d.Object)
	if !slices.Contains(versions, version) {
		im.Lose("apiVersion", importing.Refused, "%q is not known, only %s", d.APIVersion, strings.Join(versions, ", "))
		return false
	}
	return true
}

// read decodes a document.
func read[T proto.Message](im *importer, d *importing.Document, spec T) *object[T] {
	var parts map[string]json.RawMessage
	if err := json.Unmarshal(d.JSON, &parts); err != nil {
		im.Fail("", "%v", err)
	}
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		switch name {
		case "apiVersion", "kind", "spec":
		case "metadata":
			im.metadata(parts[name])
		case "status":
			im.Lose(name, importing.Ignored, "is what Istio says of the object")
		default:
			im.Fail(name, "unknown field")
		}
	}
	if d.Name == "" {
		im.Fail("metadata.name", "must not be empty")
	}
	if raw := parts["spec"]; raw != nil {
		var tree any
		if err := json.Unmarshal(raw, &tree); err != nil {
			im.Fail("spec", "%v", err)
		}
		im.unknown(spec.ProtoReflect().Descriptor(), tree, "spec")
		if err := json.Unmarshal(raw, spec); err != nil {
			im.Fail("spec", "%v", err)
		}
	}
	return &object[T]{d, spec}
}

// metadata reports what metadata says that may mean something to somebody. The rest is what the cluster keeps in its books.
func (im *importer) metadata(raw json.RawMessage) {
	var meta struct{ Annotations map[string]string }
	if err := json.Unmarshal(raw, &meta); err != nil {
		im.Fail("metadata", "%v", err)
	}
	for _, key := range slices.Sorted(maps.Keys(meta.Annotations)) {
		if key != "kubectl.kubernetes.io/last-applied-configuration" {
			im.Lose("metadata.annotations", importing.Ignored, "%s: annotations are for other programs", key)
		}
	}
}

// try changes the policy by a part of the configuration, unless it would not be valid then.
func (im *importer) try(at string, p *zerohop.Policy, change func(*zerohop.Policy)) {
	next := *p
	change(&next)
	if reflect.DeepEqual(next, *p) {
		return
	}
	if err := (zerohop.Spec{Services: map[string]zerohop.Policy{"x": next}}).Validate(); err != nil {
		im.Lose(at, importing.Refused, "%s", strings.ReplaceAll(strings.ReplaceAll(err.Error(), "services.x.", ""), "\n", "; "))
		return
	}
	*p = next
}

func at(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }
