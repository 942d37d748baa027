"""How edits are measured, one function per metric."""
