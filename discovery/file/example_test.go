package file_test

import (
	"log"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery/file"
)

func Example() {
	mesh, err := zerohop.New(zerohop.Config{Resolver: &file.Resolver{Path: "/etc/mesh/endpoints.yaml"}})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()
}
