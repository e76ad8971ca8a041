"""No example gets a weaker verdict when a field of its input is absent or null."""

from typing import Any

from pdp.policy_absent import variants, weaker

from .conftest import Ask, Question


def test_no_verdict_is_weaker_when_something_is_absent_or_null(ask: Ask, examples: dict[str, Any]) -> None:
    changed = {f"{name}: {each}": each for name, example in examples.items() for each in variants(example["input"])}
    assert len(changed) > 1000

    def base(name: str) -> Any:
        return examples[name.partition(":")[0]]

    answers = ask({n: Question(each.document, base(n)["input"]["resource"]) for n, each in changed.items()})
    weak = {n: how for n, answer in answers.items() if (how := weaker(base(n)["expected"], answer))}
    assert weak == {}
    # What names no resource has no answer, which is a deny.
    unanswered = {name.partition(": ")[2] for name in changed.keys() - answers.keys()}
    assert unanswered == {"resource absent", "resource null", "resource.id absent"}
