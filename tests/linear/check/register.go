// The application's state machine of ../node.c: registers, each with the number of its changes.
package main

import (
	"fmt"

	"github.com/anishathalye/porcupine"
)

type registerState struct{ value, version uint64 }

// Which value each version of a register was seen with. A version has one value, so an operation of unknown outcome cannot
// have made a version that was seen with another value. Without this a search tries every such operation everywhere.
type facts struct{ valueOf map[uint64]uint64 }

func registerFacts(operations []porcupine.Operation) {
	f := &facts{map[uint64]uint64{}}
	for _, o := range operations {
		if out := o.Output.(output); out.known {
			f.valueOf[out.version] = out.value
		}
	}
	for i := range operations {
		in := operations[i].Input.(input)
		in.facts = f
		operations[i].Input = in
	}
}

func registerStep(state, in, out interface{}) (bool, interface{}) {
	s, i, o := state.(registerState), in.(input), out.(output)
	next := s
	applied := i.op == "write" || (i.op == "cas" && s.value == i.a)
	if applied {
		next = registerState{i.a, s.version + 1}
		if i.op == "cas" {
			next.value = i.b
		}
	}
	if !o.known {
		value, seen := i.facts.valueOf[next.version]
		return !applied || !seen || value == next.value, next
	}
	if i.op != "read" && (o.state == "applied") != applied {
		return false, s
	}
	return o.code == codeOK && o.value == next.value && o.version == next.version, next
}

var registerModel = porcupine.Model{
	Init: func() interface{} { return registerState{} },
	Step: registerStep,
	DescribeOperation: func(in, out interface{}) string {
		i, o := in.(input), out.(output)
		asked := map[string]string{
			"read":  "read",
			"write": fmt.Sprintf("write %d", i.a),
			"cas":   fmt.Sprintf("cas %d to %d", i.a, i.b),
		}[i.op]
		if !o.known {
			return asked + ": unknown"
		}
		return fmt.Sprintf("%s: %s %d, version %d", asked, o.state, o.value, o.version)
	},
	DescribeState: func(state interface{}) string {
		s := state.(registerState)
		return fmt.Sprintf("%d, version %d", s.value, s.version)
	},
}
