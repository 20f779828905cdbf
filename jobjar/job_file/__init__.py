"""What a job is by its file: its name, its header, its attributes, its description. Moves nothing."""
