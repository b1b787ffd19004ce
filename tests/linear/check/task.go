// Tasks, one idempotency key at a time.
package main

import (
	"fmt"

	"github.com/anishathalye/porcupine"
)

type taskState struct {
	exists   bool
	id       uint64 // 0: not known yet
	end      string // "": not finished; else the word of the final state
	token    uint64 // of the attempt that ended it
	attempts uint64 // begun, as far as seen
}

func (s taskState) identify(id uint64) (taskState, bool) {
	if s.id == 0 {
		s.id = id
	}
	return s, s.exists && s.id == id
}

func taskSubmit(s taskState, o output) (bool, taskState) {
	s.exists = true
	if !o.known {
		return true, s
	}
	s, same := s.identify(o.value)
	return same && o.code == codeOK, s
}

func taskCancel(s taskState, i input, o output) (bool, taskState) {
	s, same := s.identify(i.a)
	if !same {
		return !o.known || o.code == codeNotFound, s
	}
	code := codeState
	if s.end == "" || s.end == "cancelled" {
		s.end, code = "cancelled", codeOK
	}
	return !o.known || o.code == code, s
}

// A worker ends an attempt and does not learn whether that was accepted. If it was refused, because the lease was lost or the
// task was finished by another, the operation can stand behind the task's end, or behind all that was seen.
func taskEnd(s taskState, i input, end string) (bool, taskState) {
	if !s.exists {
		return false, s // nobody works on what does not exist
	}
	if s.end == "" && i.b >= s.attempts {
		s.end, s.token, s.attempts = end, i.a, i.b
	}
	return true, s
}

func taskRead(s taskState, i input, o output) (bool, taskState) {
	if !o.known {
		return true, s // the process died before it was answered
	}
	if o.code == codeNotFound {
		return !s.exists, s
	}
	s, same := s.identify(i.a)
	if !same || o.code != codeOK || o.version < s.attempts {
		return false, s
	}
	finished := o.state == "succeeded" || o.state == "failed" || o.state == "cancelled"
	if !finished {
		s.attempts = o.version
		return s.end == "", s
	}
	if o.state != s.end {
		return false, s
	}
	if s.end == "cancelled" {
		s.attempts = o.version
		return true, s
	}
	return o.version == s.attempts && (i.op == "list" || o.value == s.token), s
}

func taskStep(state, in, out interface{}) (bool, interface{}) {
	s, i, o := state.(taskState), in.(input), out.(output)
	ok := false
	switch i.op {
	case "submit":
		ok, s = taskSubmit(s, o)
	case "cancel":
		ok, s = taskCancel(s, i, o)
	case "complete":
		ok, s = taskEnd(s, i, "succeeded")
	case "fail":
		ok, s = taskEnd(s, i, "failed")
	case "show", "list":
		ok, s = taskRead(s, i, o)
	}
	return ok, s
}

// Two keys are two tasks.
func taskIdentities(partitions []*partition) error {
	keyOf := map[uint64]string{}
	for _, p := range partitions {
		if p.model != "task" {
			continue
		}
		for _, operation := range p.operations {
			in, out := operation.Input.(input), operation.Output.(output)
			if in.op != "submit" || !out.known {
				continue
			}
			if key, taken := keyOf[out.value]; taken && key != p.key {
				return fmt.Errorf("task %d was the answer to key %s and to key %s", out.value, key, p.key)
			}
			keyOf[out.value] = p.key
		}
	}
	return nil
}

var taskModel = porcupine.Model{
	Init: func() interface{} { return taskState{} },
	Step: taskStep,
	DescribeOperation: func(in, out interface{}) string {
		i, o := in.(input), out.(output)
		if !o.known {
			return fmt.Sprintf("%s %d %d: unknown", i.op, i.a, i.b)
		}
		return fmt.Sprintf("%s %d: code %d, %s, %d, attempts %d", i.op, i.a, o.code, o.state, o.value, o.version)
	},
	DescribeState: func(state interface{}) string { return fmt.Sprintf("%+v", state) },
}
