// What others define that the chart makes objects of: the definitions are files of these modules (src/cluster/modules.rs), and nothing is built.
module kthena/perf-tests/cluster/definitions

go 1.26.0

require (
	github.com/cert-manager/cert-manager v1.21.2
	github.com/prometheus-operator/prometheus-operator v0.93.0
)
