package loadbalance_test

import (
	"testing"

	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/loadbalance/loadbalancetest"
)

func TestBuildersKeepTheRules(t *testing.T) {
	for name, build := range map[string]loadbalance.Builder{
		"PeakEWMA":              loadbalance.PeakEWMA,
		"LeastRequest":          loadbalance.LeastRequest,
		"Prequal":               loadbalance.Prequal,
		"five choices":          loadbalance.LeastRequestConfig{Choices: 5}.LeastRequest,
		"with replacement":      loadbalance.LeastRequestConfig{Choices: 3, Replacement: true}.LeastRequest,
		"Random":                loadbalance.Random,
		"WeightedRoundRobin":    loadbalance.WeightedRoundRobin,
		"UtilizationRoundRobin": loadbalance.UtilizationRoundRobin,
		"RingHash":              loadbalance.RingHash,
		"Maglev":                loadbalance.Maglev,
		"Rendezvous":            loadbalance.Rendezvous,
	} {
		if loadbalance.Raced && name != "PeakEWMA" && name != "WeightedRoundRobin" && name != "Maglev" {
			continue // what they do at the same time, TestPicksNeverLeaveTheSet has all of them do
		}
		t.Run(name, func(t *testing.T) { loadbalancetest.Test(t, build) })
	}
}
