// Reading what the recorders wrote (see ../record.h).
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"sort"

	"github.com/anishathalye/porcupine"
)

// Codes of include/pipeorch/error.h that are answers about an object.
const (
	codeOK           = 0
	codeNotFound     = -10
	codeStale        = -12
	codeNoCapability = -14
	codeState        = -15
)

// A line of a history.
type line struct {
	Event   string `json:"event"`
	ID      uint64 `json:"id"`
	NS      int64  `json:"ns"`
	Model   string `json:"model"`
	Op      string `json:"op"`
	Key     string `json:"key"`
	A       uint64 `json:"a"`
	B       uint64 `json:"b"`
	Code    int    `json:"code"`
	Value   uint64 `json:"value"`
	Version uint64 `json:"version"`
	State   string `json:"state"`
}

// What was asked.
type input struct {
	op, key string
	a, b    uint64
	facts   *facts // of the whole history of this key; only narrows where an operation of unknown outcome can stand
}

// What was answered. known is false if the operation may have taken place at any time after its call, or never.
type output struct {
	known          bool
	code           int
	value, version uint64
	state          string
}

// The operations of one model on one key.
type partition struct {
	model, key string
	operations []porcupine.Operation
	open       int // of unknown outcome
}

type history struct {
	partitions map[string]*partition
	completed  map[string]int // operations of known outcome, by model
	client     int
}

func newHistory() *history {
	return &history{partitions: map[string]*partition{}, completed: map[string]int{}}
}

func readFolder(folder string) (*history, error) {
	paths, err := filepath.Glob(filepath.Join(folder, "*.jsonl"))
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("%s: no file *.jsonl; is it the folder of a run?", folder)
	}
	sort.Strings(paths)
	h := newHistory()
	for _, path := range paths {
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		err = h.read(path, file)
		file.Close()
		if err != nil {
			return nil, err
		}
	}
	return h, nil
}

// One process's file. Its last line may be cut: the process was killed while it wrote, hence before it called or after
// what it called had returned, and the operation counts as not begun or as of unknown outcome.
func (h *history) read(name string, r io.Reader) error {
	calls := map[uint64]line{}
	var order []uint64
	ends := map[uint64]line{}
	in := bufio.NewReader(r)
	for number := 1; ; number++ {
		text, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		var l line
		if err := json.Unmarshal(text, &l); err != nil {
			return fmt.Errorf("%s:%d: %v", name, number, err)
		}
		_, called := calls[l.ID]
		_, ended := ends[l.ID]
		switch {
		case l.Event == "call" && !called:
			calls[l.ID] = l
			order = append(order, l.ID)
		case (l.Event == "return" || l.Event == "refused") && called && !ended:
			ends[l.ID] = l
		default:
			return fmt.Errorf("%s:%d: event %q of operation %d does not fit what was before", name, number, l.Event, l.ID)
		}
	}
	for _, id := range order {
		end, ended := ends[id]
		if ended && end.Event == "refused" {
			continue // it did not take place
		}
		h.add(calls[id], end, ended)
	}
	h.client++
	return nil
}

func (h *history) add(call, end line, known bool) {
	name := call.Model + " " + call.Key
	p := h.partitions[name]
	if p == nil {
		p = &partition{model: call.Model, key: call.Key}
		h.partitions[name] = p
	}
	op := porcupine.Operation{
		ClientId: h.client,
		Input:    input{op: call.Op, key: call.Key, a: call.A, b: call.B},
		Call:     call.NS,
		Output:   output{},
		Return:   math.MaxInt64,
	}
	if known {
		op.Output = output{true, end.Code, end.Value, end.Version, end.State}
		op.Return = end.NS
		h.completed[call.Model]++
	} else {
		p.open++
	}
	p.operations = append(p.operations, op)
}

func (h *history) sorted() []*partition {
	list := make([]*partition, 0, len(h.partitions))
	for _, p := range h.partitions {
		list = append(list, p)
	}
	sort.Slice(list, func(i, j int) bool {
		return list[i].model < list[j].model || (list[i].model == list[j].model && list[i].key < list[j].key)
	})
	return list
}
