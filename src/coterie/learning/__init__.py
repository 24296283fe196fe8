"""What is learned from: losses, pseudo-labels, schedules, and health without labels."""
