//go:build !race

package loadbalance

const raced = false
