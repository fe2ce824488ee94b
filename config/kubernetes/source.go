package kubernetes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/kubernetes"
	"github.com/zerohop/zerohop/internal/kubeapi"
)

// maxDocument is the largest document that package config reads. Kubernetes itself takes no ConfigMaps above 1 MiB.
const maxDocument = 4 << 20

var errTooLarge = errors.New("the value is larger than 4 MiB")

// Source is a key of a ConfigMap whose value is a document. It is a config.Source, and safe for concurrent use.
//
// Each watch reads the ConfigMap once, with a consistent read, and then streams its changes. It makes at most one request a second
// (three in a row), whatever the server does, and reads again when history is gone (410) and every 8 to 12 minutes. It never
// asks for another object. A connection that died without a word is noticed within 45 s.
type Source struct {
	// Client reaches the API server. Required. Watches of discovery can use the same.
	Client *kubernetes.Client
	// Namespace is that of the ConfigMap. Empty means that of the pod or of the context of the kubeconfig, else "default".
	Namespace string
	// Name is that of the ConfigMap. Required.
	Name string
	// Key is one of those in data or binaryData, "mesh.yaml". Required.
	Key string
}

// Watch implements config.Source. A ConfigMap that does not exist, or does not have the key, is no document. Its errors name the
// ConfigMap and the address of the API server. They are a *discovery.RefusedError if the server answers with a status other than
// 200, or with a value of more than 4 MiB.
func (s Source) Watch(ctx context.Context, update func(document []byte)) error {
	if s.Client == nil {
		return errors.New("kubernetes: Source.Client is nil")
	}
	s.Namespace = cmp.Or(s.Namespace, s.Client.Namespace())
	if err := s.check(); err != nil {
		return err
	}
	r := kubeapi.Resource{
		What:  fmt.Sprintf("ConfigMap %q in namespace %q", s.Name, s.Namespace),
		Path:  []string{"api/v1/namespaces", s.Namespace, "configmaps"},
		Query: url.Values{"fieldSelector": {"metadata.name=" + s.Name}},
	}
	w := watch{Source: s, what: r.What, update: update}
	return kubeapi.Watch(ctx, s.Client.API(), r,
		func(list *corev1.ConfigMapList) error {
			for i := range list.Items {
				if w.has(&list.Items[i]) {
					return w.tell(&list.Items[i])
				}
			}
			return w.tell(nil)
		},
		func(object *corev1.ConfigMap, exists bool) error {
			switch {
			case !w.has(object):
				return nil
			case !exists:
				return w.tell(nil)
			}
			return w.tell(object)
		})
}

// check refuses names that no object can have and that would change the request.
func (s Source) check() error {
	if errs := validation.NameIsDNSLabel(s.Namespace, false); len(errs) > 0 {
		return fmt.Errorf("kubernetes: Source.Namespace: %.100q: %s", s.Namespace, errs[0])
	}
	if errs := validation.NameIsDNSSubdomain(s.Name, false); len(errs) > 0 {
		return fmt.Errorf("kubernetes: Source.Name: %.100q: %s", s.Name, errs[0])
	}
	if errs := utilvalidation.IsConfigMapKey(s.Key); len(errs) > 0 {
		return fmt.Errorf("kubernetes: Source.Key: %.100q: %s", s.Key, errs[0])
	}
	return nil
}

// watch is the state of one Watch.
type watch struct {
	Source
	what   string
	update func(document []byte)

	told   bool
	exists bool   // what was told last
	last   string // the same
}

// has reports whether object is the one that was asked for. A server that does not know field selectors sends all.
func (w *watch) has(object *corev1.ConfigMap) bool {
	return object.Name == w.Name && object.Namespace == w.Namespace
}

// tell hands on what object has, or that there is none, unless it did so last time: an object may have other keys that change.
func (w *watch) tell(object *corev1.ConfigMap) error {
	var document string
	exists := false
	if object != nil {
		if document, exists = object.Data[w.Key]; !exists {
			var data []byte
			data, exists = object.BinaryData[w.Key]
			document = string(data)
		}
	}
	if len(document) > maxDocument {
		return &discovery.RefusedError{Err: fmt.Errorf("kubernetes: key %q of %s: %w", w.Key, w.what, errTooLarge)}
	}
	if w.told && exists == w.exists && document == w.last {
		return nil
	}
	w.told, w.exists, w.last = true, exists, document
	if !exists {
		w.update(nil)
		return nil
	}
	w.update([]byte(document)) // not nil, even if it is empty
	return nil
}
