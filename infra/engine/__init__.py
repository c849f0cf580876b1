"""The Pulumi CLI: installing it, running it, its projects, stacks and state files."""
