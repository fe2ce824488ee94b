package grpcinterop

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/pem"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/testenv"
)

// TestCasesOnPython runs the cases against servers of another implementation, gRPC's C core in Python. When one is killed,
// unary calls go on.
func TestCasesOnPython(t *testing.T) {
	if err := exec.CommandContext(t.Context(), "python3", "-c", "import grpc, google.protobuf").Run(); err != nil {
		testenv.Need(t, "grpcio", "python3 cannot import grpc and google.protobuf: "+err.Error())
	}
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	set := &descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{
		protodesc.ToFileDescriptorProto(testpb.File_grpc_testing_empty_proto), protodesc.ToFileDescriptorProto(testpb.File_grpc_testing_messages_proto),
	}}
	serialized, err := proto.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	ca := newAuthority(t)
	cert := ca.certify(t, service)
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	descriptors := write("descriptors", serialized)
	pair := []string{
		write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
		write("cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})),
	}
	for _, w := range []struct {
		name  string
		files []string
		creds credentials.TransportCredentials
	}{{"plain", nil, insecure.NewCredentials()}, {"tls", pair, credentials.NewClientTLSFromCert(ca.roots, "")}} {
		t.Run(w.name, func(t *testing.T) {
			args := append([]string{"testdata/server.py", descriptors}, w.files...)
			kill, first := servePython(t, args...)
			_, second := servePython(t, args...)
			conn := dial(t, newMesh(t, zerohop.Config{Spec: zerohop.Spec{Defaults: zerohop.Policy{Idempotent: zerohop.On}}}, first, second),
				grpc.WithTransportCredentials(w.creds))
			run := func(c testCase) {
				if err := attempt(t.Context(), func(ctx context.Context) { c.run(ctx, conn) }); err != nil {
					t.Errorf("%s: %v", c.name, err)
				}
			}
			for range 3 { // so that both are used
				for _, c := range cases() {
					run(c)
				}
			}
			kill()
			for _, c := range cases() {
				if !c.stream {
					run(c)
				}
			}
		})
	}
}

// servePython starts a server and returns how to kill it, and its address. It ends with the test at the latest.
func servePython(t *testing.T, args ...string) (kill func(), addr string) {
	t.Helper()
	cmd := exec.Command("python3", args...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait() // its status tells whether it was killed
	})
	port, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return func() { _ = cmd.Process.Kill() }, "127.0.0.1:" + strings.TrimSpace(port)
}
