// Package file watches a configuration in a file: one that a configuration management writes, or a mounted ConfigMap.
//
//	go config.Run(ctx, mesh, file.Source{Path: "/etc/mesh/mesh.yaml"}, config.RunOptions{})
//
// A change counts once size and time of the file have been the same for a tenth of a second, so that a file is not read while it
// is being written. No reader can tell a slower writer from one that is done, if what is there so far is valid. So write to
// another file beside it and rename that, as ConfigMaps and editors do.
//
// Where the configuration does not change while the process runs, os.ReadFile and config.Parse do.
package file
