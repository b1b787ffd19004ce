"""Documents of all kinds, said in Python: the pipeline that is built is the document."""

import json
import random
import re

import pytest

from pipeorch import Pipeline, Placement, index, item, length, pipeline, step

WORDS = ("alpha", "beta", "gamma", "a.b", "x-1")


class Documents:
    """Documents at random, valid ones, that use all that documents have."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.mapped = set()

    def maybe(self, make, chance=0.3):
        return make() if self.random.random() < chance else None

    def value(self, names, depth=0):
        """A template over the steps so far."""
        pick = self.random.randrange(9 if depth < 3 else 6)
        if pick >= 6:
            children = [self.value(names, depth + 1) for _ in range(self.random.randrange(3))]
            return children if pick == 6 else {f"k{i} ${{x}}": child for i, child in enumerate(children)}
        texts = ["plain", "$${not} a $ reference"]
        if names:
            texts += [f"${{{self.path(names)}}}", f"in ${{{self.path(names)}}} a text"]
        return [1, 2.5, True, False, self.random.choice(texts), self.random.choice(texts)][pick]

    def path(self, names):
        name = self.random.choice(names)
        step = f"steps.{name}" if "." not in name else f"steps[{json.dumps(name)}]"
        parts = ["", "[3].x", "[0]"] if name in self.mapped else ["", ".rows", "[3].x", '["any key"]']
        return f"{step}.output{self.random.choice(parts)}"

    def placement(self):
        labels = {"disk": "ssd", "old": False, "arch": {"not": "arm"}}
        return {"zone": "aws", "labels": labels, "gpu": "forbidden", "resources": {"gpus": 1}}

    def step(self, name, names):
        choice = self.random.choice
        used = sorted({n for n in names if self.random.random() < 0.4}, key=names.index)
        pipeline = self.random.random() < 0.2
        made = {
            "name": name,
            **({"pipeline": "below"} if pipeline else {"capability": choice(["a:b", "c:d@^1.2", "short"])}),
            "depends_on": used or None,
            "join": self.maybe(lambda: choice(["all_done", "any_succeeded"])),
            "when": self.maybe(lambda: f"len({self.path(used)}) > 0 && !(params.mode == \"dry\")") if used else None,
            "map": self.maybe(lambda: "${" + self.path(used) + "}" if used else [1, {"a": "b"}]),
            "input": {f"m{i}": self.value(used) for i in range(self.random.randrange(1, 3))},
            "on_failure": self.maybe(lambda: "continue"),
            "description": self.maybe(lambda: "what it does"),
        }
        if made["map"] is not None:
            self.mapped.add(name)
            made["input"]["element"] = choice(["${item}", "${item.x}", "${item} at ${index}"])
            made["map_parallel"] = self.maybe(lambda: 7)
        if not pipeline:
            made.update(
                config=self.maybe(lambda: {"any": [1, None, "${x}"]}),
                timeout_ms=self.maybe(lambda: 1500),
                attempts_max=self.maybe(lambda: choice([1, 9])),
                retry=self.maybe(lambda: {"delay_ms": 10, "delay_max_ms": 20}),
                priority=self.maybe(lambda: choice([0, 9])),
                placement=self.maybe(self.placement),
                cache=self.maybe(lambda: choice([True, {"ttl_ms": 2500}])),
            )
        return {key: value for key, value in made.items() if value is not None}

    def document(self):
        names = []
        steps = []
        for i in range(self.random.randrange(1, 7)):
            name = f"{self.random.choice(WORDS)}{i}"
            steps.append(self.step(name, names))
            names.append(name)
        made = {
            "name": "made",
            "version": self.maybe(lambda: "1"),
            "description": self.maybe(lambda: "about it"),
            "params": {"mode": {"type": "string", "default": "wet"}},
            "service_registry": {"short": "e:f@~1.2.3"},
            "steps": steps,
            "output": self.maybe(lambda: {"all": self.value(names)}),
        }
        return {key: value for key, value in made.items() if value is not None}


class Rewriter:
    """Says a document in Python."""

    def __init__(self, document):
        self.document = document
        self.outputs = {}

    def pipeline(self):
        d = self.document

        @pipeline("made", version=d.get("version"), description=d.get("description"), aliases=d["service_registry"])
        def made(mode: str = "wet"):
            self.mode = mode
            for written in d["steps"]:
                self.outputs[written["name"]] = self.step(written)
            return self.value(d.get("output"))

        return made

    def step(self, s):
        options = {key: s[key] for key in ("name", "join", "on_failure", "priority", "config", "description") if key in s}
        options["after"] = [self.outputs[name] for name in s.get("depends_on", ())]
        if "when" in s:
            options["when"] = (length(self.reference(s["when"].split("(", 1)[1].split(") > 0")[0])) > 0) & ~(self.mode == "dry")
        if "attempts_max" in s:
            options["retries"] = s["attempts_max"] - 1
        if "timeout_ms" in s:
            options["timeout"] = s["timeout_ms"] / 1000
        if "retry" in s:
            options["retry_delay"], options["retry_delay_max"] = s["retry"]["delay_ms"] / 1000, s["retry"]["delay_max_ms"] / 1000
        if "placement" in s:
            options["placement"] = Placement(**s["placement"])
        if "cache" in s:
            options["cache"] = s["cache"] if s["cache"] is True else s["cache"]["ttl_ms"] / 1000
        if "map_parallel" in s:
            options["parallel"] = s["map_parallel"]
        does = step(s["capability"]) if "capability" in s else step(pipeline=s["pipeline"])
        arguments = {key: self.value(value) for key, value in s["input"].items()}
        return does.options(**options).map(self.value(s["map"]), **arguments) if "map" in s else does.options(**options)(**arguments)

    def value(self, value):
        if isinstance(value, dict):
            return {key: self.value(v) for key, v in value.items()}
        if isinstance(value, list):
            return [self.value(v) for v in value]
        if not isinstance(value, str):
            return value
        parts = re.split(r"(?<!\$)\$\{(.*?)\}", value)
        if len(parts) == 3 and not parts[0] and not parts[2]:
            return self.reference(parts[1])
        return "".join(f"{self.reference(p)}" if i % 2 else p.replace("$${", "${") for i, p in enumerate(parts))

    def reference(self, path):
        keys = [json.loads(key[1:-1]) if key[0] == "[" else key.lstrip(".") for key in re.findall(r'\["[^"]*"\]|\[\d+\]|\.?[^.\[]+', path)]
        if keys[0] == "steps":
            ref, keys = self.outputs[keys[1]], keys[3:]
        else:
            ref, keys = {"item": item, "index": index}[keys[0]], keys[1:]
        for key in keys:
            ref = ref[key]
        return ref


@pytest.mark.parametrize("seed", range(60))
def test_every_document_can_be_said_in_python(seed):
    document = Documents(seed).document()
    written = Pipeline.from_json(document)
    written.validate()
    said = Rewriter(document).pipeline()
    assert said.document == document == Pipeline.from_json(said.to_json()).document
    assert said.edges == written.edges
