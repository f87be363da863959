"""What a checkpoint is worth: its likelihood of texts, its answers to tasks, its differences from another."""
