// Package stock is generated: the client of an HTTP API that stock.yaml describes.
package stock

//go:generate go tool oapi-codegen -config config.yaml stock.yaml
