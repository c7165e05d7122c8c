package gatehouse_test

import (
	"testing"
)

func TestPractices(t *testing.T) { runScripts(t, "practices") }

func TestAttacks(t *testing.T) { runScripts(t, "attacks") }
