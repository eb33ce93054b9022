"""Long runs of damaged input; the tests have the short ones."""
