# The part of the shipped policy.yaml that a release meets at the gate, for a comparison of speed.
# It decides as the evaluator does: bench/policy.py holds the two against each other before it times
# them. Input: the facts of a step as JSON, with the time in nanoseconds.
package fermata

import rego.v1

order := {"low": 0, "medium": 1, "high": 2, "critical": 3}

environments := {"dev": "low", "staging": "low", "prod": "medium"}

raises := [
	{"pattern": "**/migrations/**", "to": "high"},
	{"pattern": "**.sql", "to": "high"},
	{"pattern": "**/auth/**", "to": "critical"},
	{"pattern": "**/rbac/**", "to": "critical"},
	{"pattern": "**/secrets/**", "to": "critical"},
	{"pattern": ".github/workflows/**", "to": "high"},
	{"pattern": "policy.yaml", "to": "high"},
	{"pattern": "services.yaml", "to": "high"},
]

overriders := {"sre-lead", "release-manager", "admin"}

approvers := {"release-manager", "admin"}

default outcome := "allow"

outcome := "deny" if count(deny) > 0

outcome := "needs_approval" if {
	count(deny) == 0
	count(asks) > 0
	not approved
}

decision := {
	"outcome": outcome,
	"risk": risk,
	"rules": array.concat([one | some one in deny], [one | some one in asks]),
}

# --- risk -----------------------------------------------------------------------------------------

classes contains environments[input.environment]

classes contains "critical" if not environments[input.environment]

classes contains "high" if not is_array(input.paths)

classes contains "high" if count(input.paths) > 200

classes contains "high" if {
	is_number(input.lines)
	input.lines > 5000
}

classes contains "high" if {
	input.environment == "prod"
	not is_number(input.first_weight)
}

classes contains "high" if {
	input.environment == "prod"
	input.first_weight > 25
}

classes contains "high" if input.first_install

classes contains "high" if {
	input.environment == "prod"
	input.replicas > 50
}

classes contains "high" if {
	input.environment == "prod"
	input.services > 5
}

classes contains one.to if {
	some one in raises
	some path in input.paths
	glob.match(one.pattern, ["/"], sprintf("x/%s", [path]))
}

classes contains one.to if {
	some one in raises
	some path in input.paths
	glob.match(one.pattern, ["/"], path)
}

highest := max([order[one] | some one in classes])

risk := one if {
	some one, rank in order
	rank == highest
}

# --- windows --------------------------------------------------------------------------------------

minute := ((day * 1440) + (clock[0] * 60)) + clock[1] if {
	days := {"Monday": 0, "Tuesday": 1, "Wednesday": 2, "Thursday": 3, "Friday": 4, "Saturday": 5, "Sunday": 6}
	day := days[time.weekday([input.at, "Europe/Berlin"])]
	clock := time.clock([input.at, "Europe/Berlin"])
}

weekend if minute >= (4 * 1440) + (18 * 60)

weekend if minute < 8 * 60

people_overriding contains lower(one.by) if {
	some one in input.overrides
	some role in one.roles
	role in overriders
	not endswith(lower(one.by), "[bot]")
	count(trim_space(one.reason)) >= 10
	one.at <= input.at
	input.at < min([one.expires, one.at + (((2 * 3600) * 1000) * 1000000)])
}

overridden if {
	risk != "critical"
	count(people_overriding) >= 1
}

overridden if count(people_overriding) >= 2

deny contains {"rule": "windows.closed", "reason": "production is closed from Friday to Monday"} if {
	input.environment == "prod"
	not input.in_flight
	weekend
	not overridden
}

# --- the release itself ---------------------------------------------------------------------------

deny contains {"rule": "environment.unknown", "reason": sprintf("no environment %v", [input.environment])} if {
	not environments[input.environment]
}

deny contains {"rule": "canary.first_weight", "reason": sprintf("%v%% at first", [input.first_weight])} if {
	input.first_weight > 10
}

asks contains {"rule": "canary.missing", "reason": "production wants a canary"} if {
	input.environment == "prod"
	not is_number(input.first_weight)
}

deny contains {"rule": "checks.failed", "reason": sprintf("%v failed", [name])} if {
	input.environment == "prod"
	not input.in_flight
	some name, conclusion in input.checks
	not conclusion in {"success", "neutral", "skipped", "pending"}
	is_string(conclusion)
}

slo_answers := {
	"pre": {"fail": "ask", "inconclusive": "ask", "nodata": "ask", "error": "ask"},
	"canary": {"fail": "deny", "inconclusive": "ask", "nodata": "ask", "error": "ask"},
	"post": {"fail": "deny", "inconclusive": "ask", "nodata": "ask", "error": "ask"},
}

deny contains {"rule": "slo", "reason": input.verdict.kind} if {
	slo_answers[input.verdict.phase][input.verdict.kind] == "deny"
}

asks contains {"rule": "slo", "reason": input.verdict.kind} if {
	slo_answers[input.verdict.phase][input.verdict.kind] == "ask"
}

is_fix if {
	some pattern in {"fix:*", "fix(*", "hotfix*", "revert*"}
	glob.match(pattern, [], lower(input.title))
}

deny contains {"rule": "slo.budget_spent", "reason": "the error budget is spent"} if {
	input.environment == "prod"
	not input.in_flight
	input.budget_left < 0
	not is_fix
}

asks contains {"rule": "slo.budget_low", "reason": "little of the error budget is left"} if {
	input.environment == "prod"
	not input.in_flight
	input.budget_left < 25
}

# --- evidence -------------------------------------------------------------------------------------

deny contains {"rule": "security.cvss", "reason": one.id} if {
	input.environment == "prod"
	some one in input.vulnerabilities
	one.cvss >= 9
}

asks contains {"rule": "security.cvss", "reason": one.id} if {
	input.environment == "prod"
	some one in input.vulnerabilities
	one.cvss >= 7
	one.cvss < 9
}

asks contains {"rule": "security.unscored", "reason": one.id} if {
	input.environment == "prod"
	some one in input.vulnerabilities
	is_null(one.cvss)
}

deny contains {"rule": "security.known_exploited", "reason": one.id} if {
	input.environment == "prod"
	some one in input.vulnerabilities
	one.known_exploited == true
}

deny contains {"rule": "security.secret", "reason": "the change adds secrets"} if count(input.secrets) > 0

deny contains {"rule": "signing.unverified", "reason": "the signature does not hold"} if {
	input.signature == "unverified"
}

asks contains {"rule": "cost.over", "reason": "above the limit"} if {
	input.environment == "prod"
	input.cost.monthly > 5000
}

asks contains {"rule": "cost.over", "reason": "grows too much"} if {
	input.environment == "prod"
	input.cost.before > 0
	((input.cost.monthly - input.cost.before) / input.cost.before) * 100 > 10
}

deny contains {"rule": "cost.unpriced", "reason": "no price"} if {
	input.environment == "prod"
	count(input.cost.unpriced) > 0
}

# --- approvals ------------------------------------------------------------------------------------

default needed := 0

needed := 2 if {
	input.environment == "prod"
	risk == "critical"
}

needed := 1 if {
	input.environment == "prod"
	risk != "critical"
}

asks contains {"rule": "approval.required", "reason": sprintf("%v approvals", [needed])} if needed > 0

wanted := max([needed, 1])

voters contains lower(vote.by) if {
	some vote in input.votes
	vote.decision == "approve"
	some role in vote.roles
	role in approvers
	not endswith(lower(vote.by), "[bot]")
	lower(vote.by) != lower(input.author)
	vote.at < input.expires
}

approved if {
	count(voters) >= wanted
	input.at < input.expires
}

deny contains {"rule": "approval.rejected", "reason": vote.by} if {
	some vote in input.votes
	vote.decision == "reject"
}
