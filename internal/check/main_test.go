package check

import (
	"os"
	"testing"

	"minimail/internal/testbed"
)

func TestMain(m *testing.M) { os.Exit(testbed.InWorld(m)) }
