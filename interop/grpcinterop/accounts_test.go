package grpcinterop

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/oauth2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/oauth"
	"google.golang.org/grpc/interop"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
)

const (
	email = "shopper@example.com" // of the only account
	scope = "https://example.com/auth/orders"
)

// issuer stands in for the cloud in which there are accounts: it issues tokens for one.
type issuer struct {
	key    *rsa.PrivateKey // of the account
	bearer string          // the token that it issues
	file   string          // what an account is given: its key, and where to get tokens for it
	json   []byte          // the content of that
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{key: key, bearer: "token-" + rand.Text(), file: filepath.Join(t.TempDir(), "key.json")}
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	uri := server.URL + "/token"
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		if claims, err := i.verify(r.FormValue("assertion")); err != nil || claims.Aud != uri || claims.Scope != scope {
			http.Error(w, fmt.Sprintf("%+v, %v", claims, err), http.StatusUnauthorized)
			return
		}
		i.issue(w)
	})
	// Computers of the cloud ask here, without a key.
	mux.HandleFunc("GET /computeMetadata/v1/instance/service-accounts/default/token", func(w http.ResponseWriter, _ *http.Request) { i.issue(w) })
	t.Setenv("GCE_METADATA_HOST", strings.TrimPrefix(server.URL, "http://"))

	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	i.json, err = json.Marshal(map[string]string{
		"type": "service_account", "client_email": email, "private_key_id": "1", "token_uri": uri,
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	if err == nil {
		err = os.WriteFile(i.file, i.json, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func (i *issuer) issue(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"access_token": %q, "token_type": "Bearer", "expires_in": 3600}`, i.bearer)
}

// claims are what a token says that an account has signed.
type claims struct{ Iss, Aud, Scope string }

// verify returns what a token (RFC 7519) says if the account has signed it.
func (i *issuer) verify(token string) (c claims, err error) {
	signed, signature, ok := cut(token)
	sum := sha256.Sum256([]byte(signed))
	if !ok || rsa.VerifyPKCS1v15(&i.key.PublicKey, crypto.SHA256, sum[:], signature) != nil {
		return c, errors.New("not signed by the account")
	}
	_, body, _ := cut(signed)
	if err := json.Unmarshal(body, &c); err != nil {
		return c, err
	}
	if c.Iss != email {
		return c, fmt.Errorf("not of %s", email)
	}
	return c, nil
}

// cut cuts the last part of a token off, and decodes it.
func cut(token string) (rest string, last []byte, ok bool) {
	n := strings.LastIndexByte(token, '.')
	if n < 0 {
		return "", nil, false
	}
	last, err := base64.RawURLEncoding.DecodeString(token[n+1:])
	return token[:n], last, err == nil
}

// check is an interceptor for servers: it lets calls of the account pass, and tells them who they are.
func (i *issuer) check(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	token := strings.TrimPrefix(strings.Join(md.Get("authorization"), ""), "Bearer ")
	if token != i.bearer {
		if c, err := i.verify(token); err != nil || c.Aud != "https://"+service+"/" {
			return nil, status.Errorf(codes.Unauthenticated, "%+v, %v", c, err)
		}
	}
	reply, err := h(ctx, req)
	if r, ok := reply.(*testpb.SimpleResponse); ok && err == nil {
		r.Username, r.OauthScope = email, scope
	}
	return reply, err
}

// bundle is how clouds give both kinds of credentials at once.
type bundle struct {
	transport credentials.TransportCredentials
	account   credentials.PerRPCCredentials
}

func (b bundle) TransportCredentials() credentials.TransportCredentials { return b.transport }
func (b bundle) PerRPCCredentials() credentials.PerRPCCredentials       { return b.account }

// NewWithMode is for connections to what finds nodes for others, which these are not.
func (bundle) NewWithMode(string) (credentials.Bundle, error) { return nil, errors.New("no modes") }

// TestCasesWithAccounts runs the cases that want an account in a cloud, of which a stand-in has one, while a node
// restarts. They are for TLS only. The published credentials of the last two trust what the machine trusts; here they are
// made of the same parts.
func TestCasesWithAccounts(t *testing.T) {
	i, w := newIssuer(t), wires(t)[1]
	b := setUp(t, w, zerohop.Policy{}, grpc.ChainUnaryInterceptor(i.check))
	signed, err := oauth.NewJWTAccessFromKey(i.json)
	if err != nil {
		t.Fatal(err)
	}
	exchanged, err := oauth.NewServiceAccountFromKey(i.json, scope)
	if err != nil {
		t.Fatal(err)
	}
	fixed := oauth.TokenSource{TokenSource: oauth2.StaticTokenSource(interop.GetToken(t.Context(), i.file, scope))}
	var list []testCase
	add := func(name string, f func(context.Context, testpb.TestServiceClient), opts ...grpc.DialOption) {
		client := testpb.NewTestServiceClient(dial(t, b.mesh, opts...))
		list = append(list, testCase{name: name, run: func(ctx context.Context, _ *grpc.ClientConn) { f(ctx, client) }})
	}
	transport := grpc.WithTransportCredentials(w.client)
	add("compute_engine_creds", func(ctx context.Context, client testpb.TestServiceClient) {
		interop.DoComputeEngineCreds(ctx, client, email, scope)
	}, transport, grpc.WithPerRPCCredentials(oauth.NewComputeEngine()))
	add("service_account_creds", func(ctx context.Context, client testpb.TestServiceClient) {
		interop.DoServiceAccountCreds(ctx, client, i.file, scope)
	}, transport, grpc.WithPerRPCCredentials(exchanged))
	add("jwt_token_creds", func(ctx context.Context, client testpb.TestServiceClient) {
		interop.DoJWTTokenCreds(ctx, client, i.file)
	}, transport, grpc.WithPerRPCCredentials(signed))
	add("per_rpc_creds", func(ctx context.Context, client testpb.TestServiceClient) {
		interop.DoPerRPCCreds(ctx, client, i.file, scope)
	}, transport)
	add("oauth2_auth_token", func(ctx context.Context, client testpb.TestServiceClient) {
		interop.DoOauth2TokenCreds(ctx, client, i.file, scope)
	}, transport, grpc.WithPerRPCCredentials(fixed))
	add("google_default_credentials", func(ctx context.Context, client testpb.TestServiceClient) {
		interop.DoGoogleDefaultCredentials(ctx, client, email)
	}, grpc.WithCredentialsBundle(bundle{w.client, exchanged}))
	add("compute_engine_channel_credentials", func(ctx context.Context, client testpb.TestServiceClient) {
		interop.DoComputeEngineChannelCredentials(ctx, client, email)
	}, grpc.WithCredentialsBundle(bundle{w.client, oauth.NewComputeEngine()}))
	b.run(t, list, nil, (*node).drain, func(ctx context.Context, c testCase) error {
		_, err := b.attempt(ctx, c)
		return err
	})

	without := testCase{run: func(ctx context.Context, conn *grpc.ClientConn) {
		interop.DoJWTTokenCreds(ctx, testpb.NewTestServiceClient(conn), i.file)
	}}
	if _, err := b.attempt(t.Context(), without); err == nil {
		t.Error("a call without credentials passes")
	}
}
