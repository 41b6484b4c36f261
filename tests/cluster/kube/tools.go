//go:build tools

// Package tools keeps the Gateway API in go.mod: nothing here compiles it, but its module
// folder holds the CRDs that the test cluster installs.
package tools

import _ "sigs.k8s.io/gateway-api/apis/v1"
