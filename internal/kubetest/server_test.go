//go:build unix

package kubetest

import (
	"testing"

	"go.uber.org/goleak"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestServerKeepsObjectsThroughSignals(t *testing.T) {
	s := Start(t)
	s.PutSlice(t, &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "a"},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{},
	})
	url := "https://" + s.Addr() + sliceFolder("") + "/a"
	if !s.get(url, AdminToken) {
		t.Error("the administrator cannot read")
	}
	if s.get(url, StrangerToken) {
		t.Error("a stranger can read")
	}
	s.Kill(t)
	if s.get(url, AdminToken) {
		t.Error("a killed server answers")
	}
	s.Restart(t)
	if !s.get(url, AdminToken) {
		t.Error("the slice is lost")
	}
	s.DeleteSlice(t, "", "a")
	if s.get(url, AdminToken) {
		t.Error("the slice is still there")
	}
}
