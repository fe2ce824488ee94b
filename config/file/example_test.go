package file_test

import (
	"context"
	"log"
	"os"

	"github.com/zerohop/zerohop/config"
	"github.com/zerohop/zerohop/config/file"
)

func Example() {
	src := file.Source{Path: "/etc/mesh/mesh.yaml"}
	err := src.Watch(context.Background(), func(document []byte) {
		spec, err := config.Parse(document, config.ParseOptions{Name: src.Path, Expand: os.LookupEnv})
		log.Print(spec, err)
	})
	log.Print(err)
}
