// Package shop is generated: a Connect service of every kind of RPC.
package shop

//go:generate protoc --go_out=. --go_opt=paths=source_relative --connect-go_out=. --connect-go_opt=paths=source_relative shop.proto
