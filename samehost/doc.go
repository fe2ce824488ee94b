// Package samehost lets calls between processes on one host use Unix sockets in place of TCP, where both sides are set up for it.
//
// A server listens on both. The Listener says where its socket is in metadata, which goes into the registry with the instance;
// lifecycle.Run adds it by itself:
//
//	tcp, err := net.Listen("tcp", ":8080")
//	...
//	l, err := samehost.Listen(tcp, samehost.ListenConfig{Directory: "/run/shop"})
//
// A caller names the directories that it takes sockets from, in zerohop.Config:
//
//	zerohop.Config{Resolver: resolver, Sockets: samehost.Policy{Directories: []string{"/run/shop"}}}
//
// Then httpmesh and grpcmesh connect to the sockets of instances on the same host, and to the address of all others. What does not
// work is connected to by TCP at once, within the same attempt.
//
// It works on Linux and macOS. Elsewhere a Listener is that of TCP alone, and no socket is ever used. Nor is there any use for it
// where callers and instances do not see the same files, such as containers that share no volume.
package samehost
