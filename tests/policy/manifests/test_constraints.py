"""Templates and constraints: which objects they are about, what they refuse, what stops them."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from domain.errors import SourceError
from policy.manifests.check import read_constraints, read_objects
from policy.manifests.finding import Finding

POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "namespace": "shop"},
}


def template(
    source: dict[str, Any] | None = None, *, kind: str = "K8sTold", schema: Any = None, **more: Any
) -> dict[str, Any]:
    code: list[dict[str, Any]] = []
    if source is not None:
        code.append({"engine": "K8sNativeValidation", "source": source})
    code += more.get("code", [])
    return {
        "apiVersion": "templates.gatekeeper.sh/v1",
        "kind": "ConstraintTemplate",
        "metadata": {"name": kind.lower()},
        "spec": {
            "crd": {
                "spec": {
                    "names": {"kind": kind},
                    "validation": {"openAPIV3Schema": schema or {"type": "object"}},
                }
            },
            "targets": [{"target": "admission.k8s.gatekeeper.sh", "code": code}],
        },
    }


def constraint(kind: str = "K8sTold", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "constraints.gatekeeper.sh/v1beta1",
        "kind": kind,
        "metadata": {"name": "told"},
        "spec": spec,
    }


def never(message: str = "never") -> dict[str, Any]:
    return {"validations": [{"expression": "false", "message": message}]}


def found(policy: list[dict[str, Any]], *objects: dict[str, Any]) -> list[Finding]:
    constraints = read_constraints([("policy.yaml", yaml.safe_dump_all(policy))])
    given, problems = read_objects([("given.yaml", yaml.safe_dump_all(objects))])
    assert not problems
    namespaces = {one.name: one.data for one in given if one.kind == "Namespace"}
    return [one for obj in given for one in constraints.examine_one(obj, namespaces)]


def said(source: dict[str, Any], obj: dict[str, Any] = POD, **spec: Any) -> list[str]:
    return [one.message for one in found([template(source), constraint(**spec)], obj)]


def refusal(*policy: dict[str, Any]) -> str:
    with pytest.raises(SourceError) as caught:
        read_constraints([("policy.yaml", yaml.safe_dump_all(policy))])
    return "\n".join(str(one) for one in caught.value.problems)


# --- which objects ---


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        ({}, True),
        ({"kinds": [{"apiGroups": [""], "kinds": ["Pod"]}]}, True),
        ({"kinds": [{"apiGroups": ["*"], "kinds": ["*"]}]}, True),
        ({"kinds": [{"kinds": ["Service", "Pod"]}]}, True),
        ({"kinds": [{"apiGroups": ["apps"], "kinds": ["Pod"]}]}, False),
        ({"kinds": [{"apiGroups": [""], "kinds": ["pod"]}]}, False),
        ({"namespaces": ["shop"]}, True),
        ({"namespaces": ["sh*"]}, True),
        ({"namespaces": ["*op"]}, True),
        ({"namespaces": ["*ho*"]}, True),
        ({"namespaces": ["s", "bank"]}, False),
        ({"excludedNamespaces": ["shop"]}, False),
        ({"excludedNamespaces": ["sho*"]}, False),
        ({"excludedNamespaces": ["bank"]}, True),
        ({"labelSelector": {"matchLabels": {"app": "web"}}}, True),
        ({"labelSelector": {"matchLabels": {"app": "db"}}}, False),
        ({"labelSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}}, True),
        (
            {
                "labelSelector": {
                    "matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]
                }
            },
            False,
        ),
        ({"namespaceSelector": {"matchLabels": {"tier": "gold"}}}, True),
        ({"namespaceSelector": {"matchLabels": {"tier": "tin"}}}, False),
        ({"scope": "Namespaced"}, True),
        ({"scope": "Cluster"}, False),
        ({"name": "web"}, True),
        ({"name": "w*"}, True),
        ({"name": "db"}, False),
        ({"source": "Original"}, True),
        ({"source": "Generated"}, False),
    ],
)
def test_a_constraint_is_about_what_its_match_says(match: dict[str, Any], fits: bool) -> None:
    pod = {**POD, "metadata": {**POD["metadata"], "labels": {"app": "web"}}}
    space = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "shop", "labels": {"tier": "gold"}},
    }
    policy = [template(never()), constraint(match=match)]
    assert ("Pod" in [one.object.kind for one in found(policy, pod, space)]) == fits


def test_what_is_not_known_of_a_namespace_does_not_let_an_object_off() -> None:
    homeless = {**POD, "metadata": {"name": "web"}}
    assert said(never(), homeless, match={"namespaces": ["bank"]}) == ["never"]
    assert said(never(), homeless, match={"excludedNamespaces": ["*"]}) == ["never"]
    selector = {"matchLabels": {"tier": "gold"}}
    assert said(never(), POD, match={"namespaceSelector": selector}) == ["never"]


@pytest.mark.parametrize(
    "match",
    [
        {"namespace": ["shop"]},
        {"kinds": [{"kind": ["Pod"]}]},
        {"kinds": {"kinds": ["Pod"]}},
        {"namespaces": "shop"},
        {"scope": "cluster"},
        {"labelSelector": {"app": "web"}},
        {"labelSelector": {"matchExpressions": [{"key": "a", "operator": "Is"}]}},
        ["Pod"],
    ],
)
def test_a_match_that_means_nothing_is_refused(match: Any) -> None:
    assert "policy.yaml:" in refusal(template(never()), constraint(match=match))


# --- what is said ---


def test_messages_come_from_the_expression_then_the_text_then_the_condition() -> None:
    source = {
        "validations": [
            {"expression": "false", "messageExpression": "'is ' + object.metadata.name"},
            {"expression": "false", "messageExpression": "object.nothing", "message": "as written"},
            {"expression": "object.kind == 'x'"},
        ]
    }
    assert said(source) == ["is web", "as written", "failed expression: object.kind == 'x'"]


def test_a_finding_names_rule_and_place_and_what_to_do() -> None:
    (one,) = found([template(never()), constraint()], POD)
    assert one.rule == "K8sTold/told"
    assert one.row()["line"] == 1
    assert one.row()["path"] == "$"
    assert "told" in one.fix


def test_variables_are_found_when_they_are_needed_and_only_then() -> None:
    source = {
        "variables": [
            {"name": "late", "expression": "variables.early + '!'"},
            {"name": "early", "expression": "object.metadata.name"},
            {"name": "broken", "expression": "object.spec.nothing"},
        ],
        "validations": [
            {"expression": "variables.late == 'web!'"},
            {"expression": "!has(object.spec) || variables.broken == 1"},
        ],
    }
    assert said(source) == []


def test_a_broken_variable_that_is_needed_denies_whatever_is_asked_of_it() -> None:
    for asked in ("variables.broken == 1", "!has(variables.broken)"):
        source = {
            "variables": [{"name": "broken", "expression": "object.spec.nothing"}],
            "validations": [{"expression": asked}],
        }
        (message,) = said(source)
        assert message.startswith("it could not be evaluated, so it denies")


@pytest.mark.parametrize(
    "expression", ["object.spec.x == 1", "1 / 0 == 1", "'text'", "null", "!dyn(1)"]
)
def test_an_expression_that_gives_no_answer_denies(expression: str) -> None:
    source = {"failurePolicy": "Ignore", "validations": [{"expression": f"dyn({expression})"}]}
    (message,) = said(source)
    assert message.startswith("it could not be evaluated, so it denies")


def test_a_condition_that_fails_denies_and_one_that_is_false_excuses() -> None:
    source = never()
    assert said({**source, "matchConditions": [{"name": "c", "expression": "false"}]}) == []
    assert said({**source, "matchCondition": [{"name": "c", "expression": "false"}]}) == []
    assert "denies" in said({**source, "matchConditions": [{"name": "c", "expression": "1"}]})[0]


def test_parameters_have_the_defaults_of_the_schema() -> None:
    schema = {
        "type": "object",
        "properties": {
            "deep": {
                "type": "array",
                "items": {"type": "object", "properties": {"n": {"type": "integer", "default": 7}}},
            },
            "word": {"type": "string", "default": "hello"},
        },
    }
    source = {
        "validations": [
            {"expression": "false", "messageExpression": "variables.params.word"},
            {"expression": "variables.params.deep[0].n == 7"},
            {"expression": "params.spec.parameters.deep.size() == 1"},
        ]
    }
    policy = [template(source, schema=schema), constraint(parameters={"deep": [{}]})]
    assert [one.message for one in found(policy, POD)] == ["hello"]


@pytest.mark.parametrize(
    ("expression", "given"),
    [
        ("variables.params == null", False),
        ("variables.params == null || size(variables.params.word) > 9", False),
        ("null == variables.params ? true : has(variables.params.word)", True),
        ("!has(variables.params.word)", False),
    ],
)
def test_parameters_that_are_not_given_are_null_to_whoever_asks(
    expression: str, given: bool
) -> None:
    source = {"validations": [{"expression": expression}]}
    assert said(source) == []
    assert (said(source, parameters={"word": "x"}) == []) == given


@pytest.mark.parametrize(
    "expression",
    [
        "'v1.2.3-rc1'.find('[0-9]+[.][0-9]+') == '1.2' && ''.find('x') == ''",
        "'a1b22'.findAll('[0-9]+') == ['1', '22']",
        "sets.contains(['a', 'b'], ['b']) && !sets.contains(['a'], ['a', 'b'])",
        "sets.equivalent([1, 2], [2, 1, 1]) && !sets.equivalent([1], [1, 2])",
        "sets.intersects(['a', 'b'], ['b', 'c']) && !sets.intersects(['a'], [])",
    ],
)
def test_functions_of_kubernetes_are_there(expression: str) -> None:
    assert said({"validations": [{"expression": expression}]}) == []
    assert said({"validations": [{"expression": f"!({expression})"}]}) != []


@pytest.mark.parametrize(
    ("action", "weight"),
    [
        ({}, "deny"),
        ({"enforcementAction": "warn"}, "warn"),
        ({"enforcementAction": "dryrun"}, "dryrun"),
        (
            {
                "enforcementAction": "scoped",
                "scopedEnforcementActions": [
                    {"action": "warn", "enforcementPoints": [{"name": "*"}]},
                    {"action": "deny", "enforcementPoints": [{"name": "gator.gatekeeper.sh"}]},
                ],
            },
            "deny",
        ),
        (
            {
                "enforcementAction": "scoped",
                "scopedEnforcementActions": [
                    {"action": "deny", "enforcementPoints": [{"name": "audit.gatekeeper.sh"}]}
                ],
            },
            "dryrun",
        ),
    ],
)
def test_a_finding_weighs_what_the_constraint_says(action: dict[str, Any], weight: str) -> None:
    (one,) = found([template(never()), constraint(**action)], POD)
    assert one.weight == weight


# --- what is refused ---


def test_a_template_only_in_rego_is_refused_by_name() -> None:
    rego = [{"engine": "Rego", "source": {"rego": "package x"}}]
    words = refusal(template(code=rego), constraint())
    assert "ConstraintTemplate k8stold" in words
    assert "Rego only" in words
    old = template()
    old["spec"]["targets"] = [{"target": "admission.k8s.gatekeeper.sh", "rego": "package x"}]
    assert "Rego only" in refusal(old)


def test_a_template_in_both_is_taken_in_cel() -> None:
    rego = [{"engine": "Rego", "source": {"rego": "package x"}}]
    policy = [template(never(), code=rego), constraint()]
    assert [one.message for one in found(policy, POD)] == ["never"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"validations": []}, "validates nothing"),
        ({"validations": [{"expression": "1 +"}]}, "does not compile"),
        ({"validations": [{"expression": "nobody.knows == 1"}]}, "undeclared reference"),
        ({"validations": [{"expression": "variables.unheard"}]}, "unheard is not defined"),
        ({"validations": [{"expression": 3}]}, "not a CEL expression"),
        ({"validation": []}, "'validation' is unknown"),
        (
            {**never(), "variables": [{"name": "a", "expression": "1"}] * 2},
            "a is there twice",
        ),
        ({"validations": [{"expression": "x" * 30_000}]}, "letters"),
        ({"validations": [{"expression": "(" * 300 + "true" + ")" * 300}]}, "recursion"),
    ],
)
def test_a_template_that_cannot_be_right_is_refused(source: dict[str, Any], words: str) -> None:
    refused = refusal(template(source), constraint())
    assert words in refused
    assert refused.startswith("policy.yaml:")


def test_constraints_need_templates_and_parameters_that_fit() -> None:
    assert "no template for constraints of K8sOther" in refusal(
        template(never()), constraint("K8sOther")
    )
    schema = {
        "type": "object",
        "required": ["labels"],
        "properties": {"labels": {"type": "array", "items": {"type": "string"}}},
    }
    cases: list[tuple[Any, str]] = [
        (None, "the parameter labels is missing"),
        ({"labels": "app"}, "not of the type array"),
        ({"labels": [1]}, "not of the type string"),
        ({"labels": [], "lables": []}, "did you mean labels?"),
        ([], "not of the type object"),
    ]
    for parameters, words in cases:
        assert words in refusal(template(never(), schema=schema), constraint(parameters=parameters))
    assert "enforcementAction 'block'" in refusal(
        template(never()), constraint(enforcementAction="block")
    )
    assert "another K8sTold/told" in refusal(template(never()), constraint(), constraint())


# --- what explodes ---

LONG = {**POD, "spec": {"many": list(range(2000)), "text": "x" * 10_000}}


@pytest.mark.parametrize(
    "source",
    [
        {"validations": [{"expression": "object.spec.many.all(a, object.spec.many.all(b, true))"}]},
        {
            "variables": [
                {"name": "v0", "expression": "object.spec.text"},
                *(
                    {"name": f"v{n}", "expression": f"variables.v{n - 1} + variables.v{n - 1}"}
                    for n in range(1, 60)
                ),
            ],
            "validations": [{"expression": "variables.v59 != ''"}],
        },
        {
            "variables": [
                {"name": "v0", "expression": "object.spec.many"},
                *(
                    {
                        "name": f"v{n}",
                        "expression": f"[variables.v{n - 1}, variables.v{n - 1}, variables.v0]",
                    }
                    for n in range(1, 60)
                ),
            ],
            "validations": [{"expression": "variables.v59 != []"}],
        },
        {
            "variables": [
                {"name": "a", "expression": "variables.b"},
                {"name": "b", "expression": "variables.a"},
            ],
            "validations": [{"expression": "variables.a"}],
        },
    ],
)
def test_what_loops_or_explodes_is_stopped_and_denies(source: dict[str, Any]) -> None:
    (message,) = said(source, LONG)
    assert message.startswith("it could not be evaluated, so it denies")
