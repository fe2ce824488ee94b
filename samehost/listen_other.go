//go:build !linux && !darwin

package samehost

import "errors"

func (l *Listener) open(ListenConfig) error { return errors.ErrUnsupported }

func (l *Listener) remove() {}
