// The registry of workers, one worker at a time: registered under an incarnation, or not.
package main

import (
	"fmt"

	"github.com/anishathalye/porcupine"
)

// State: the registered incarnation, 0 if there is none.
func registryStep(state, in, out interface{}) (bool, interface{}) {
	s, i, o := state.(uint64), in.(input), out.(output)
	next, code := s, codeOK
	switch i.op {
	case "register":
		if i.a < s {
			code = codeStale
		} else {
			next = i.a
		}
	case "deregister":
		switch {
		case s == 0:
			code = codeNotFound
		case i.a != 0 && i.a != s:
			code = codeStale
		default:
			next = 0
		}
	case "route":
		if s == 0 {
			code = codeNoCapability
		}
		if o.known && o.value != s {
			return false, s
		}
	default:
		return false, s
	}
	return !o.known || o.code == code, next
}

var registryModel = porcupine.Model{
	Init: func() interface{} { return uint64(0) },
	Step: registryStep,
	DescribeOperation: func(in, out interface{}) string {
		i, o := in.(input), out.(output)
		if !o.known {
			return fmt.Sprintf("%s %d: unknown", i.op, i.a)
		}
		return fmt.Sprintf("%s %d: code %d, incarnation %d", i.op, i.a, o.code, o.value)
	},
	DescribeState: func(state interface{}) string { return fmt.Sprintf("incarnation %d", state.(uint64)) },
}
