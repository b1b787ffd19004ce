// check judges recorded histories: is there an order of the operations, each between its call and its return, in which one
// copy of the object, used by one client at a time, would have given the same answers? The search is Porcupine's.
//
//	check [-at-least N] [-limit D] [-visualize FILE] FOLDER
//
// Prints one line of JSON. Exit status: 0 linearizable; 1 not, and the lines before say which key; 2 wrong usage or a malformed
// history; 3 not decided within the limit, or fewer than N operations of a model, which would prove nothing.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/anishathalye/porcupine"
)

var models = map[string]porcupine.Model{"register": registerModel, "task": taskModel, "registry": registryModel}

const (
	exitIllegal   = 1
	exitUsage     = 2
	exitUndecided = 3
)

type verdict struct {
	Verdict    string         `json:"verdict"`
	Completed  map[string]int `json:"completed"`
	Open       int            `json:"open"`
	Partitions int            `json:"partitions"`
	Seconds    float64        `json:"seconds"`
}

// judge returns the first partition that is not linearizable, or else one that was not decided.
func judge(partitions []*partition, limit time.Duration) (*partition, porcupine.CheckResult, error) {
	var undecided *partition
	for _, p := range partitions {
		model, known := models[p.model]
		if !known {
			return nil, porcupine.Unknown, fmt.Errorf("unknown model %q", p.model)
		}
		if p.model == "register" {
			registerFacts(p.operations)
		}
		switch porcupine.CheckOperationsTimeout(model, p.operations, limit) {
		case porcupine.Illegal:
			return p, porcupine.Illegal, nil
		case porcupine.Unknown:
			undecided = p
		}
	}
	if undecided != nil {
		return undecided, porcupine.Unknown, nil
	}
	return nil, porcupine.Ok, nil
}

func visualize(p *partition, limit time.Duration, path string) {
	_, info := porcupine.CheckOperationsVerbose(models[p.model], p.operations, limit)
	if err := porcupine.VisualizePath(models[p.model], info, path); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	fmt.Printf("picture: %s\n", path)
}

func fail(code int, format string, args ...interface{}) {
	fmt.Fprintf(os.Stderr, "check: "+format+"\n", args...)
	os.Exit(code)
}

func main() {
	atLeast := flag.Int("at-least", 1, "operations of known outcome that each model must have")
	limit := flag.Duration("limit", time.Minute, "time for one key")
	picture := flag.String("visualize", "", "write a picture of what is not linearizable to this file")
	flag.Parse()
	if flag.NArg() != 1 {
		fail(exitUsage, "one folder is expected")
	}
	h, err := readFolder(flag.Arg(0))
	if err != nil {
		fail(exitUsage, "%v", err)
	}
	began := time.Now()
	partitions := h.sorted()
	v := verdict{Verdict: "linearizable", Completed: h.completed, Partitions: len(partitions)}
	for _, p := range partitions {
		v.Open += p.open
	}
	code := 0
	bad, result, err := judge(partitions, *limit)
	if err != nil {
		fail(exitUsage, "%v", err)
	}
	if err := taskIdentities(partitions); err != nil {
		fmt.Println(err)
		v.Verdict, code = "not linearizable", exitIllegal
	}
	if bad != nil {
		v.Verdict, code = "undecided", exitUndecided
		if result == porcupine.Illegal {
			v.Verdict, code = "not linearizable", exitIllegal
		}
		fmt.Printf("%s %s: %s, %d operations, %d of them of unknown outcome\n", bad.model, bad.key, v.Verdict, len(bad.operations), bad.open)
		if *picture != "" {
			visualize(bad, *limit, *picture)
		}
	}
	for model := range models {
		if code == 0 && h.completed[model] < *atLeast {
			fmt.Printf("%s: %d operations of known outcome, at least %d expected\n", model, h.completed[model], *atLeast)
			v.Verdict, code = "undecided", exitUndecided
		}
	}
	v.Seconds = time.Since(began).Seconds()
	text, err := json.Marshal(v)
	if err != nil {
		fail(exitUsage, "%v", err)
	}
	fmt.Println(string(text))
	os.Exit(code)
}
