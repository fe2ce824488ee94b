// Package etcdtest runs real etcd servers for integration tests: on free ports of loopback, with their data in a folder
// of the test, killed when the test ends. It works on Unix only.
//
//	server := etcdtest.Start(t, etcdtest.Options{})
//	client, err := clientv3.New(clientv3.Config{Endpoints: []string{server.Addr()}})
//
// The server is $ZEROHOP_ETCD, else the etcd in $PATH.
package etcdtest
