package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// The lines of testdata/NAME are what a recorder would have written.
func verdictOf(t *testing.T, path string) porcupine.CheckResult {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	h := newHistory()
	if err := h.read(path, file); err != nil {
		t.Fatal(err)
	}
	partitions := h.sorted()
	if err := taskIdentities(partitions); err != nil {
		return porcupine.Illegal
	}
	_, result, err := judge(partitions, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// Histories named good-* are linearizable, those named bad-* are not.
func TestKnownHistories(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, path := range paths {
		kind := strings.SplitN(filepath.Base(path), "-", 2)[0]
		want, known := map[string]porcupine.CheckResult{"good": porcupine.Ok, "bad": porcupine.Illegal}[kind]
		if !known {
			t.Fatalf("%s: a known history is named good-* or bad-*", path)
		}
		seen[kind]++
		t.Run(filepath.Base(path), func(t *testing.T) {
			if got := verdictOf(t, path); got != want {
				t.Errorf("%s, expected %s", got, want)
			}
		})
	}
	if seen["good"] < 3 || seen["bad"] < 8 {
		t.Errorf("%d good and %d bad histories: some are missing", seen["good"], seen["bad"])
	}
}

func TestMalformedIsRefused(t *testing.T) {
	for _, text := range []string{
		"no JSON\n",
		`{"event":"return","id":1,"ns":1}` + "\n",
		`{"event":"call","id":1,"ns":1,"model":"register","op":"read","key":"r"}` + "\n" +
			`{"event":"call","id":1,"ns":2,"model":"register","op":"read","key":"r"}` + "\n",
	} {
		if newHistory().read("text", strings.NewReader(text)) == nil {
			t.Errorf("accepted: %s", text)
		}
	}
}

// A process that is killed while it writes leaves a cut line: as if the operation had not begun, or of unknown outcome.
func TestCutLastLine(t *testing.T) {
	call := `{"event":"call","id":%d,"ns":%d,"model":"register","op":"write","key":"r","a":7}`
	h := newHistory()
	text := fmt.Sprintf(call, 0, 1) + "\n" + fmt.Sprintf(call, 1, 2)[:40]
	if err := h.read("text", strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	p := h.partitions["register r"]
	if len(p.operations) != 1 || p.open != 1 {
		t.Errorf("%d operations, %d open; expected 1 and 1", len(p.operations), p.open)
	}
}

// Many operations of unknown outcome on one key must not make the search explode.
func TestManyOpen(t *testing.T) {
	h := newHistory()
	var text strings.Builder
	ns, id, version := 0, 0, 0
	emit := func(format string, args ...interface{}) { fmt.Fprintf(&text, format+"\n", args...) }
	for i := 0; i < 200; i++ {
		ns, id, version = ns+10, id+1, version+1
		emit(`{"event":"call","id":%d,"ns":%d,"model":"register","op":"write","key":"r","a":%d}`, id, ns, 1000+i)
		emit(`{"event":"return","id":%d,"ns":%d,"value":%d,"version":%d,"state":"applied"}`, id, ns+5, 1000+i, version)
		if i%5 == 0 {
			id++
			emit(`{"event":"call","id":%d,"ns":%d,"model":"register","op":"write","key":"r","a":%d}`, id, ns+6, 5000+i)
			if i%10 == 0 {
				version++ // it took place
			}
		}
	}
	if err := h.read("text", strings.NewReader(text.String())); err != nil {
		t.Fatal(err)
	}
	if _, result, err := judge(h.sorted(), 10*time.Second); err != nil || result != porcupine.Ok {
		t.Errorf("%s, %v; expected %s", result, err, porcupine.Ok)
	}
}
